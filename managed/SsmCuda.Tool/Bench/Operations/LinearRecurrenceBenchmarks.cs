using System.Numerics;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>h_t = a_t h_{t-1} + b_t: three numbers cross the memory bus per element, two in and one out.</summary>
internal static class LinearRecurrenceBenchmarks
{
    private const string Operation = "linear_recurrence";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        // The benchmark shape of the accelerated-scan package; the width and length of Griffin's published 2B model; the
        // states and length of S5 on Path-X; one row that a whole machine has to share.
        var acceleratedScan = new SequenceSizes("accelerated-scan", 8, 1536, 4096).Scaled(quick);
        var griffin = new SequenceSizes("RecurrentGemma-2b", 1, 2560, 8192) { IsChannelsLast = true }.Scaled(quick);
        var pathX = new SequenceSizes("S5 Path-X", 1, 256, 16384).Scaled(quick);
        var singleRow = new SequenceSizes("single row", 1, 1, 1L << 26).Scaled(quick);

        yield return Define<float, float, Float32Arithmetic>(acceleratedScan);
        yield return Define<BFloat16, float, BFloat16Arithmetic>(acceleratedScan);
        yield return Define<double, double, Float64Arithmetic>(acceleratedScan with { Batch = 4 });
        yield return Define<float, float, Float32Arithmetic>(griffin);
        yield return Define<Complex64, Complex64, Complex64Arithmetic>(pathX);
        yield return Define<float, float, Float32Arithmetic>(singleRow);
        var longRow = singleRow with { Length = 4 * singleRow.Length };
        yield return Define<float, float, Float32Arithmetic>(longRow) with { OnlyOnGpu = true };
    }

    private static BenchmarkDefinition Define<TStorage, TState, TArithmetic>(SequenceSizes sizes)
        where TStorage : unmanaged
        where TState : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, TState> =>
        new(Operation, sizes.ToString(), TArithmetic.Name, device => new Case<TStorage, TState, TArithmetic>(device, sizes));

    private sealed unsafe class Case<TStorage, TState, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TState : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, TState>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly BenchmarkTensor<TStorage> a;
        private readonly BenchmarkTensor<TStorage> b;
        private readonly BenchmarkTensor<TStorage> h;
        private readonly HostArray<TStorage> loopResult;
        private readonly TState[] loopState;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            a = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(0.5f + 0.499f * x, phase)));
            b = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(2, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            h = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            loopResult = new HostArray<TStorage>(sizes.Elements);
            loopState = new TState[sizes.Channels];
        }

        public override long Bytes => 3 * sizes.Elements * sizeof(TStorage);

        public override double Flops => (double)sizes.Elements * TArithmetic.FlopsOfMultiplyAdd;

        public override double Tolerance => TArithmetic.Tolerance;

        public override PeerTask PeerTask => new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length);

        public override void Run() => context.LinearRecurrence(a.Device, b.Device, h.Device);

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var pa = a.Host.Pointer;
            var pb = b.Host.Pointer;
            var ph = loopResult.Pointer;
            if (sizes.IsChannelsLast)
            {
                for (var batch = 0; batch < sizes.Batch; batch++)
                {
                    Array.Clear(loopState);
                    for (long t = 0; t < sizes.Length; t++)
                    {
                        for (var c = 0; c < loopState.Length; c++, pa++, pb++, ph++)
                        {
                            loopState[c] = TArithmetic.MultiplyAdd(TArithmetic.Load(*pa), loopState[c], TArithmetic.Load(*pb));
                            *ph = TArithmetic.Store(loopState[c]);
                        }
                    }
                }
                return;
            }
            for (long row = 0; row < sizes.Rows; row++)
            {
                TState state = default;
                for (long t = 0; t < sizes.Length; t++, pa++, pb++, ph++)
                {
                    state = TArithmetic.MultiplyAdd(TArithmetic.Load(*pa), state, TArithmetic.Load(*pb));
                    *ph = TArithmetic.Store(state);
                }
            }
        }

        public override double MaxError()
        {
            var result = h.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length))
            {
                var (at, step) = sizes.Row(row);
                var state = Complex.Zero;
                for (long t = 0; t < sizes.Length; t++, at += step)
                {
                    state = TArithmetic.Exact(a.Host.Pointer[at]) * state + TArithmetic.Exact(b.Host.Pointer[at]);
                    meter.Add(TArithmetic.Exact(result.Pointer[at]), state);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            a.Dispose();
            b.Dispose();
            h.Dispose();
            loopResult.Dispose();
        }
    }
}
