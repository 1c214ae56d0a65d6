using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Configs;
using SsmCuda.Interop;

namespace SsmCuda.Benchmarks;

/// <summary>
/// What the managed API adds to the bare C call: tensors of one element, one call per invocation, so that what is left of the
/// time is checking arguments and calling. Each pair is a baseline, the generated binding with its structs made beforehand, and the
/// managed method.
/// </summary>
[GroupBenchmarksBy(BenchmarkLogicalGroupRule.ByCategory)]
[CategoriesColumn]
public unsafe class CallOverheadBenchmarks
{
    // The argument structs of a bare call, with the tensors they point to, in memory that does not move.
    private const int Capacity = 16;

    private readonly float[] data = new float[Capacity];
    private readonly nint[] sequenceShape = [1, 1, 1];
    private readonly nint[] matrixShape = [1, 1];
    private readonly nint[] stateShape = [1, 1, 1, 1];
    private SsmContext context = null!;
    private DLTensor* tensors;
    private long* ones;
    private float* elements;
    private SsmLinearRecurrenceArgs* linearRecurrence;
    private SsmSelectiveScanArgs* selectiveScan;
    private DeviceTensor<float>[] deviceTensors = [];

    [GlobalSetup]
    public void Setup()
    {
        context = SsmContext.Create(SsmDeviceType.Cpu);
        tensors = (DLTensor*)NativeMemory.AllocZeroed(Capacity, (nuint)sizeof(DLTensor));
        elements = (float*)NativeMemory.AllocZeroed(Capacity, sizeof(float));
        ones = (long*)NativeMemory.Alloc(4, sizeof(long));
        new Span<long>(ones, 4).Fill(1);

        linearRecurrence = (SsmLinearRecurrenceArgs*)NativeMemory.AllocZeroed((nuint)sizeof(SsmLinearRecurrenceArgs));
        *linearRecurrence = new SsmLinearRecurrenceArgs
        {
            StructSize = (uint)sizeof(SsmLinearRecurrenceArgs),
            A = Tensor(0, 3),
            B = Tensor(1, 3),
            H = Tensor(2, 3),
        };
        selectiveScan = (SsmSelectiveScanArgs*)NativeMemory.AllocZeroed((nuint)sizeof(SsmSelectiveScanArgs));
        *selectiveScan = new SsmSelectiveScanArgs
        {
            StructSize = (uint)sizeof(SsmSelectiveScanArgs),
            U = Tensor(3, 3),
            Dt = Tensor(4, 3),
            A = Tensor(5, 2),
            B = Tensor(6, 4),
            C = Tensor(7, 4),
            Y = Tensor(8, 3),
        };
        deviceTensors =
        [
            Device(3, sequenceShape), Device(4, sequenceShape), Device(5, matrixShape), Device(6, stateShape),
            Device(7, stateShape), Device(8, sequenceShape),
        ];
        SsmException.ThrowIfFailed(LinearRecurrenceBare());
        SsmException.ThrowIfFailed(SelectiveScanBare());
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        Array.ForEach(deviceTensors, tensor => tensor.Dispose());
        context.Dispose();
        NativeMemory.Free(tensors);
        NativeMemory.Free(elements);
        NativeMemory.Free(ones);
        NativeMemory.Free(linearRecurrence);
        NativeMemory.Free(selectiveScan);
    }

    [Benchmark(Baseline = true), BenchmarkCategory("linear_recurrence, 3 tensors")]
    public int LinearRecurrenceBare() => NativeMethods.LinearRecurrence(context.Handle, linearRecurrence);

    [Benchmark, BenchmarkCategory("linear_recurrence, 3 tensors")]
    public void LinearRecurrenceSpans() =>
        context.LinearRecurrence<float>(data.AsSpan(0, 1), data.AsSpan(1, 1), data.AsSpan(2, 1), 1, 1, 1);

    [Benchmark(Baseline = true), BenchmarkCategory("selective_scan, 6 tensors")]
    public int SelectiveScanBare() => NativeMethods.SelectiveScan(context.Handle, selectiveScan);

    [Benchmark, BenchmarkCategory("selective_scan, 6 tensors")]
    public void SelectiveScanSpans() => context.SelectiveScan(View(3, sequenceShape), View(4, sequenceShape), View(5, matrixShape),
        View(6, stateShape), View(7, stateShape), TensorView.Create(data.AsSpan(8, 1), sequenceShape));

    [Benchmark, BenchmarkCategory("selective_scan, 6 tensors")]
    public void SelectiveScanDeviceTensors() => context.SelectiveScan(deviceTensors[0], deviceTensors[1], deviceTensors[2],
        deviceTensors[3], deviceTensors[4], deviceTensors[5]);

    private ReadOnlyTensorView View(int index, nint[] shape) => ReadOnlyTensorView.Create<float>(data.AsSpan(index, 1), shape);

    private DeviceTensor<float> Device(int index, nint[] shape) =>
        DeviceTensor.FromPointer<float>(context, (nint)(elements + index), shape);

    private DLTensor* Tensor(int index, int rank)
    {
        tensors[index] = new DLTensor
        {
            Data = elements + index,
            Device = new DLDevice { DeviceType = DLDeviceType.DLCPU },
            Ndim = rank,
            Dtype = new DLDataType { Code = (byte)DLDataTypeCode.DLFloat, Bits = 32, Lanes = 1 },
            Shape = ones,
        };
        return tensors + index;
    }
}
