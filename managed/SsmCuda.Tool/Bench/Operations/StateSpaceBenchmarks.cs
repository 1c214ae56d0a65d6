using System.Numerics;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Sizes of a model's systems, and what all their benchmarks share.</summary>
internal sealed record StateSpaceSizes(string Model, int Batch, int Heads, int States, int Length)
{
    public override string ToString() => $"{Model} {Batch}x{Heads}x{Length} N{States}";
}

/// <summary>Dense systems (LSSL): their kernel, by powers, and their recurrence, bound by products of matrices and vectors.</summary>
internal static class DenseBenchmarks
{
    private const float Step = 0.01f;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick) => Of(quick, quick ? 1 : 2, quick ? 4 : 128);

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) => Of(quick, quick ? 2 : 50, quick ? 4 : 256);

    private static IEnumerable<BenchmarkDefinition> Of(bool quick, int batch, int heads)
    {
        var lssl = new StateSpaceSizes("LSSL, sequential MNIST", batch, heads, quick ? 16 : 64, quick ? 128 : 784);
        yield return new("dense_kernel", (lssl with { Batch = 1 }).ToString(), "float32",
            device => new Case(device, lssl with { Batch = 1 }, isKernel: true));
        yield return new("dense_ssm", lssl.ToString(), "float32", device => new Case(device, lssl, isKernel: false));
    }

    private sealed unsafe class Case : BenchmarkCase
    {
        private readonly SsmContext context;
        private readonly StateSpaceSizes sizes;
        private readonly bool isKernel;
        private readonly BenchmarkTensor<float> a;
        private readonly BenchmarkTensor<float> b;
        private readonly BenchmarkTensor<float> c;
        private readonly BenchmarkTensor<float> dt;
        private readonly BenchmarkTensor<float> u;
        private readonly BenchmarkTensor<float> y;
        private readonly float[] loopResult;

        public Case(BenchmarkDevice device, StateSpaceSizes sizes, bool isKernel)
        {
            this.sizes = sizes;
            this.isKernel = isKernel;
            context = device.Context;
            var (heads, states, length) = (sizes.Heads, sizes.States, sizes.Length);
            // legs, whose powers stay below 1.
            a = Input(device, [heads, states, states], array =>
            {
                for (var i = 0; i < array.Length; i++)
                {
                    var (n, k) = (i / states % states, i % states);
                    array.Pointer[i] = n > k ? -MathF.Sqrt((2 * n + 1) * (2 * k + 1)) : n == k ? -(n + 1) : 0;
                }
            });
            b = Input(device, [heads, states], array =>
            {
                for (var i = 0; i < array.Length; i++)
                    array.Pointer[i] = MathF.Sqrt(2 * (i % states) + 1);
            });
            c = Input(device, [heads, states], array => array.Fill(1, -1, 1));
            dt = Input(device, [heads], array => array.Fill(2, Step, Step));
            u = Input(device, [sizes.Batch, heads, length], array => array.Fill(3, -1, 1));
            y = isKernel
                ? device.Output<float>([heads, length], [length, 1])
                : device.Output<float>([sizes.Batch, heads, length], [(nint)heads * length, length, 1]);
            loopResult = new float[(long)sizes.Batch * heads * length];
        }

        public override long Bytes => sizeof(float) * ((long)sizes.Heads * sizes.States * (sizes.States + 2)
            + (isKernel ? 1L : 2L * sizes.Batch) * sizes.Heads * sizes.Length);

        public override double Flops => isKernel
            ? 2.0 * sizes.Heads * sizes.States * (sizes.Length + (double)sizes.States * sizes.States * Math.Log2(sizes.Length))
            : 2.0 * sizes.Batch * sizes.Heads * sizes.Length * sizes.States * (sizes.States + 2);

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => 1e-4;

        public override bool HasLoop => 1.0 * sizes.Batch * sizes.Heads * sizes.Length * sizes.States * sizes.States <= 1L << 30;

        public override PeerTask? PeerTask => isKernel
            ? null
            : new("dense_ssm", "float32", sizes.Batch, sizes.Heads, sizes.Length) { States = sizes.States };

        public override void Run()
        {
            if (isKernel)
                context.DenseKernel(SsmDiscretization.Bilinear, a.Device, b.Device, c.Device, dt.Device, y.Device);
            else
                context.DenseSsm(SsmDiscretization.Bilinear, a.Device, b.Device, c.Device, dt.Device, u.Device, y.Device);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var at = 0;
            for (var batch = 0; batch < sizes.Batch; batch++)
            {
                for (var head = 0; head < sizes.Heads; head++)
                {
                    foreach (var value in Sequence(batch, head))
                        loopResult[at++] = (float)value;
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows((long)sizes.Batch * sizes.Heads, (long)sizes.Length * sizes.States * sizes.States * 16))
            {
                var at = row * sizes.Length;
                foreach (var value in Sequence((int)(row / sizes.Heads), (int)(row % sizes.Heads)))
                    meter.Add(result.Pointer[at++], value);
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            foreach (var tensor in (BenchmarkTensor<float>[])[a, b, c, dt, u, y])
                tensor.Dispose();
        }

        private static BenchmarkTensor<float> Input(BenchmarkDevice device, nint[] shape, Action<HostArray<float>> fill) =>
            device.Input(shape, Strides.Compact(shape), fill);

        // Step by step: (I - dt/2 a) x' = (I + dt/2 a) x + dt b u, a being triangular.
        private double[] Sequence(int batch, int head)
        {
            var states = sizes.States;
            var x = new double[states];
            var right = new double[states];
            var half = dt.Host.Pointer[head] / 2.0;
            var own = a.Host.Pointer + (long)head * states * states;
            var outputs = new double[sizes.Length];
            for (var t = 0; t < sizes.Length; t++)
            {
                var input = isKernel ? (t == 0 ? 1.0 : 0.0) : u.Host.Pointer[((long)batch * sizes.Heads + head) * sizes.Length + t];
                for (var i = 0; i < states; i++)
                {
                    var sum = x[i] + 2 * half * b.Host.Pointer[(long)head * states + i] * input;
                    for (var j = 0; j <= i; j++)
                        sum += half * own[i * states + j] * x[j];
                    right[i] = sum;
                }
                for (var i = 0; i < states; i++)
                {
                    var sum = right[i];
                    for (var j = 0; j < i; j++)
                        sum += half * own[i * states + j] * right[j];
                    right[i] = sum / (1 - half * own[i * states + i]);
                }
                (x, right) = (right, x);
                for (var i = 0; i < states; i++)
                    outputs[t] += c.Host.Pointer[(long)head * states + i] * x[i];
            }
            return outputs;
        }
    }
}

/// <summary>Diagonal plus low-rank systems of rank 1 in conjugate pairs (S4): their kernel, its gradients, their recurrence.</summary>
internal static class DplrBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var lra = new StateSpaceSizes("S4 on LRA", quick ? 1 : 8, quick ? 4 : 256, quick ? 8 : 32, quick ? 256 : 1024);
        yield return Define("dplr_kernel", lra with { Batch = 1 });
        yield return Define("dplr_kernel_backward", lra with { Batch = 1 });
        yield return Define("dplr_ssm", lra);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick)
    {
        var lra = new StateSpaceSizes("S4 on LRA", 1, quick ? 4 : 256, quick ? 8 : 32, 1024);
        foreach (var length in (int[])(quick ? [256] : [1024, 2048, 4096, 8192, 16_384]))
        {
            yield return Define("dplr_kernel", lra with { Length = length });
            yield return Define("dplr_kernel_backward", lra with { Length = length });
        }
        yield return Define("dplr_ssm", lra with { Batch = quick ? 2 : 50, Length = quick ? 256 : 1024 });
    }

    private static BenchmarkDefinition Define(string operation, StateSpaceSizes sizes) =>
        new(operation, sizes.ToString(), "float32", device => new Case(device, sizes, operation));

    private sealed unsafe class Case : BenchmarkCase
    {
        private readonly SsmContext context;
        private readonly StateSpaceSizes sizes;
        private readonly string operation;
        private readonly BenchmarkTensor<Complex64> eigenvalues;
        private readonly BenchmarkTensor<Complex64> p;
        private readonly BenchmarkTensor<Complex64> b;
        private readonly BenchmarkTensor<Complex64> c;
        private readonly BenchmarkTensor<float> dt;
        private readonly BenchmarkTensor<float> u;
        private readonly BenchmarkTensor<float> y;
        private readonly BenchmarkTensor<Complex64> gradB;
        private readonly BenchmarkTensor<Complex64> gradC;
        private readonly BenchmarkTensor<Complex64> gradP;
        private readonly BenchmarkTensor<Complex64> gradEigenvalues;
        private readonly BenchmarkTensor<float> gradDt;
        private readonly BenchmarkTensor<Complex64> tilde;
        private readonly DeviceTensor<float> gradK; // the first element of the batch of u
        private double sink;

        public Case(BenchmarkDevice device, StateSpaceSizes sizes, string operation)
        {
            this.sizes = sizes;
            this.operation = operation;
            context = device.Context;
            var (heads, states, length) = (sizes.Heads, sizes.States, sizes.Length);
            nint[] perState = [heads, states];
            nint[] perRank = [heads, 1, states];
            var w = new Complex64[states];
            var ownP = new Complex64[states];
            var ownB = new Complex64[states];
            context.HippoNplr(SsmHippoMeasure.Legs, TensorView.Create<Complex64>(w, states),
                TensorView.Create<Complex64>(ownP, 1, states), TensorView.Create<Complex64>(ownB, states));
            eigenvalues = Input<Complex64>(device, perState, array => Repeat(array, w));
            p = Input<Complex64>(device, perRank, array => Repeat(array, ownP));
            b = Input<Complex64>(device, perState, array => Repeat(array, ownB));
            c = Input<Complex64>(device, perState, array => array.Fill(1, (x, z) => new Complex64(2 * x - 1, 2 * z - 1)));
            dt = Input<float>(device, [heads], array => array.Fill(2, 0.001f, 0.1f));
            u = Input<float>(device, [sizes.Batch, heads, length], array => array.Fill(3, -1, 1));
            y = operation == "dplr_ssm"
                ? device.Output<float>([sizes.Batch, heads, length], [(nint)heads * length, length, 1])
                : device.Output<float>([heads, length], [length, 1]);
            tilde = Input<Complex64>(device, perState, array => context.DplrToTilde(
                View(eigenvalues.Host, perState), View(p.Host, perRank), View(dt.Host, [heads]), View(c.Host, perState),
                TensorView.Create(array.Span(0, (int)array.Length), perState), length, conjugatePairs: true));
            gradB = device.Output<Complex64>(perState, Strides.Compact(perState));
            gradC = device.Output<Complex64>(perState, Strides.Compact(perState));
            gradP = device.Output<Complex64>(perRank, Strides.Compact(perRank));
            gradEigenvalues = device.Output<Complex64>(perState, Strides.Compact(perState));
            gradDt = device.Output<float>([heads], [1]);
            gradK = DeviceTensor.FromPointer<float>(context, u.Device.Pointer, [heads, length], [length, 1]);
        }

        private bool IsRecurrence => operation == "dplr_ssm";

        public override long Bytes => (long)sizes.Heads * sizes.States * 8 * (operation == "dplr_kernel_backward" ? 8 : 4)
            + sizeof(float) * (IsRecurrence ? 2L * sizes.Batch : 1L) * sizes.Heads * sizes.Length;

        // Of the kernel: a quotient of complex numbers, 8 operations, and four products and sums for each state, frequency and
        // sign; of its gradients twice that; of the recurrence the diagonal and the low-rank part.
        public override double Flops => IsRecurrence
            ? 28.0 * sizes.Batch * sizes.Heads * sizes.Length * sizes.States
            : (operation == "dplr_kernel" ? 1.0 : 3.0) * 40 * sizes.Heads * sizes.Length * sizes.States;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => 1e-4;

        public override bool HasLoop => 1L * sizes.Batch * sizes.Heads * sizes.Length * sizes.States <= 1L << 27;

        public override PeerTask? PeerTask => operation == "dplr_kernel"
            ? new(operation, "float32", 1, sizes.Heads, sizes.Length) { States = sizes.States }
            : null;

        public override void Run()
        {
            switch (operation)
            {
                case "dplr_kernel":
                    context.DplrKernel(eigenvalues.Device, p.Device, b.Device, tilde.Device, dt.Device, y.Device,
                        conjugatePairs: true, cIsTilde: true);
                    break;
                case "dplr_kernel_backward":
                    context.DplrKernelBackward(eigenvalues.Device, p.Device, b.Device, tilde.Device, dt.Device, gradK, new()
                    {
                        ConjugatePairs = true,
                        CIsTilde = true,
                        GradEigenvalues = gradEigenvalues.Device,
                        GradP = gradP.Device,
                        GradB = gradB.Device,
                        GradC = gradC.Device,
                        GradDt = gradDt.Device,
                    });
                    break;
                default:
                    context.DplrSsm(eigenvalues.Device, p.Device, b.Device, c.Device, dt.Device, u.Device, y.Device, new()
                    {
                        ConjugatePairs = true,
                    });
                    break;
            }
        }

        public override void RunLoop()
        {
            for (var batch = 0; batch < sizes.Batch; batch++)
            {
                for (var head = 0; head < sizes.Heads; head++)
                    sink += Sequence(batch, head, b.Host.Pointer)[^1];
            }
        }

        // Of the gradients, that of b, which the kernel is linear in: with b itself for a direction it is the kernel's.
        public override double MaxError()
        {
            var meter = new ErrorMeter();
            var result = operation == "dplr_kernel_backward" ? null : y.ToHost();
            var gradient = gradB.ToHost();
            foreach (var row in ErrorMeter.Rows((long)sizes.Batch * sizes.Heads, (long)sizes.Length * sizes.States * 64))
            {
                var head = (int)(row % sizes.Heads);
                var exact = Sequence((int)(row / sizes.Heads), head, b.Host.Pointer);
                if (result is not null)
                {
                    for (var t = 0; t < sizes.Length; t++)
                        meter.Add(result.Pointer[row * sizes.Length + t], exact[t]);
                    continue;
                }
                var (slope, expected) = (0.0, 0.0);
                for (var t = 0; t < sizes.Length; t++)
                    expected += u.Host.Pointer[(long)head * sizes.Length + t] * exact[t];
                for (var n = 0; n < sizes.States; n++)
                {
                    var (own, along) = (gradient.Pointer[(long)head * sizes.States + n], b.Host.Pointer[(long)head * sizes.States + n]);
                    slope += own.Real * along.Real + own.Imaginary * along.Imaginary;
                }
                meter.Add(slope, expected);
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            foreach (var tensor in (IDisposable[])[eigenvalues, p, b, c, dt, u, y, gradB, gradC, gradP, gradEigenvalues, gradDt, tilde, gradK])
                tensor.Dispose();
            GC.KeepAlive(sink);
        }

        private static BenchmarkTensor<T> Input<T>(BenchmarkDevice device, nint[] shape, Action<HostArray<T>> fill)
            where T : unmanaged => device.Input(shape, Strides.Compact(shape), fill);

        private static ReadOnlyTensorView View<T>(HostArray<T> array, nint[] shape)
            where T : unmanaged => ReadOnlyTensorView.Create<T>(array.Span(0, (int)array.Length), shape);

        private static void Repeat(HostArray<Complex64> array, Complex64[] values)
        {
            for (var i = 0; i < array.Length; i++)
                array.Pointer[i] = values[i % values.Length];
        }

        private static Complex Wide(Complex64 value) => new(value.Real, value.Imaginary);

        // Step by step with the discretised system, diagonal and of rank 1: x' = a x - u 2 Re(v x) + b input.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private double[] Sequence(int batch, int head, Complex64* inputs)
        {
            var states = sizes.States;
            var first = (long)head * states;
            var q = 2.0 / dt.Host.Pointer[head];
            var (a, input, column, row) = (new Complex[states], new Complex[states], new Complex[states], new Complex[states]);
            var (low, along) = (0.0, 0.0);
            for (var n = 0; n < states; n++)
            {
                var (w, own) = (Wide(eigenvalues.Host.Pointer[first + n]), Wide(p.Host.Pointer[first + n]));
                var d = 1 / (q - w);
                a[n] = (q + w) * d;
                row[n] = Complex.Conjugate(own) * d;
                low += 2 * (row[n] * own).Real;
                along += 2 * (row[n] * Wide(inputs[first + n])).Real;
            }
            for (var n = 0; n < states; n++)
            {
                var (w, own) = (Wide(eigenvalues.Host.Pointer[first + n]), Wide(p.Host.Pointer[first + n]));
                column[n] = 2 * q * own / ((q - w) * (1 + low));
                input[n] = 2 * Wide(inputs[first + n]) / (q - w) - column[n] * along / q;
            }
            var x = new Complex[states];
            var outputs = new double[sizes.Length];
            for (var t = 0; t < sizes.Length; t++)
            {
                var seen = 0.0;
                for (var n = 0; n < states; n++)
                    seen += 2 * (row[n] * x[n]).Real;
                var value = IsRecurrence
                    ? u.Host.Pointer[((long)batch * sizes.Heads + head) * sizes.Length + t]
                    : t == 0 ? 1.0 : 0.0;
                for (var n = 0; n < states; n++)
                {
                    x[n] = a[n] * x[n] - column[n] * seen + input[n] * value;
                    outputs[t] += 2 * (Wide(c.Host.Pointer[first + n]) * x[n]).Real;
                }
            }
            return outputs;
        }
    }
}

/// <summary>The projection of signals onto legs, whose chain of steps is the limit, and what it writes.</summary>
internal static class HippoProjectBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var sizes = new StateSpaceSizes("HiPPO, permuted MNIST", quick ? 2 : 64, 1, quick ? 32 : 256, quick ? 256 : 784);
        yield return new("hippo_project", sizes.ToString(), "float32", device => new Case(device, sizes));
    }

    private sealed unsafe class Case : BenchmarkCase
    {
        private readonly SsmContext context;
        private readonly StateSpaceSizes sizes;
        private readonly BenchmarkTensor<float> f;
        private readonly BenchmarkTensor<float> coefficients;
        private readonly float[] loopResult;

        public Case(BenchmarkDevice device, StateSpaceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            f = device.Input<float>([sizes.Batch, sizes.Length], [sizes.Length, 1], array => array.Fill(1, -1, 1));
            coefficients = device.Output<float>([sizes.Batch, sizes.Length, sizes.States],
                [(nint)sizes.Length * sizes.States, sizes.States, 1]);
            loopResult = new float[sizes.States];
        }

        public override long Bytes => sizeof(float) * (long)sizes.Batch * sizes.Length * (1 + sizes.States);

        public override PeerTask PeerTask =>
            new("hippo_project", "float32", sizes.Batch, 1, sizes.Length) { States = sizes.States };

        // A forward and a backward step: some 30 for a coefficient.
        public override double Flops => 30.0 * sizes.Batch * sizes.Length * sizes.States;

        public override double Tolerance => 1e-4;

        public override void Run() => context.HippoProject(SsmHippoMeasure.Legs, f.Device, coefficients.Device, new()
        {
            Discretization = SsmDiscretization.Bilinear,
        });

        public override void RunLoop()
        {
            for (var row = 0; row < sizes.Batch; row++)
                Project(row, (_, n, value) => loopResult[n] = (float)value);
        }

        public override double MaxError()
        {
            var result = coefficients.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Batch, (long)sizes.Length * sizes.States * 8))
            {
                Project(row, (t, n, value) => meter.Add(result.Pointer[(row * sizes.Length + t) * sizes.States + n], value));
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            f.Dispose();
            coefficients.Dispose();
        }

        private void Project(long row, Action<int, int, double> store)
        {
            var x = new double[sizes.States];
            for (var t = 0; t < sizes.Length; t++)
            {
                var half = 0.5 / (t + 1);
                var input = f.Host.Pointer[row * sizes.Length + t];
                var sum = 0.0;
                for (var n = 0; n < sizes.States; n++)
                {
                    var (root, own) = (Math.Sqrt(2 * n + 1), x[n]);
                    x[n] = own - half * (root * (sum - input) + (n + 1) * own);
                    sum += root * own;
                }
                sum = 0;
                for (var n = 0; n < sizes.States; n++)
                {
                    var root = Math.Sqrt(2 * n + 1);
                    x[n] = (x[n] - half * root * (sum - input)) / (1 + (n + 1) * half);
                    sum += root * x[n];
                    store(t, n, x[n]);
                }
            }
        }
    }
}
