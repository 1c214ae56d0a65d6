using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>What S4, S4D and S5 are made of beside the convolution: sums over poles and of exponentials, kernels and recurrences of
/// diagonal systems. Bound by arithmetic but for the scan.</summary>
internal static class DiagonalBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        foreach (var length in (int[])(quick ? [1024] : [1024, 4096]))
        {
            yield return Define(new("cauchy_multiply", "S4 on LRA", 1, quick ? 16 : 256, 32, length / 2 + 1));
            yield return Define(new("vandermonde_multiply", "S4D on LRA", 1, quick ? 16 : 256, 32, length));
        }
        yield return Define(new("cauchy_multiply_backward", "S4 on LRA", 1, quick ? 8 : 256, 32, quick ? 513 : 2049));
        yield return Define(new("vandermonde_multiply", "S4D, one head", 1, 1, 32, quick ? 1 << 16 : 1 << 20));
        yield return Define(new("vandermonde_multiply_backward", "S4D on LRA", 1, quick ? 8 : 256, 32, quick ? 1024 : 4096));
        yield return Define(new("diagonal_kernel", "S4D kernel", 1, quick ? 16 : 256, 64, quick ? 1024 : 4096));
        yield return Define(new("diagonal_kernel_backward", "S4D kernel", 1, quick ? 8 : 256, 64, quick ? 1024 : 4096));
        yield return Define(new("diagonal_ssm", "S4D sequential CIFAR", quick ? 2 : 8, quick ? 16 : 256, 32, 1024));
        yield return Define(new("diagonal_ssm", "SaShiMi audio", 1, quick ? 4 : 64, 32, quick ? 4096 : 128000));
        yield return Define(new("diagonal_ssm", "S4D one step", 1, 512, 32, 1));
        yield return Define(new("diagonal_ssm_backward", "S4D sequential CIFAR", quick ? 2 : 8, quick ? 8 : 256, 32, 1024));
        yield return Define(new("diagonal_scan", "S5 on LRA", 1, 1, 256, quick ? 2048 : 16384));
        yield return Define(new("discretize_diagonal", "S4D", 1, quick ? 16 : 256, 64, 1));
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick)
    {
        foreach (var length in (int[])(quick ? [1024] : [1024, 2048, 4096, 8192, 16384]))
        {
            yield return Define(new("cauchy_multiply", "S4 on LRA", 1, quick ? 16 : 256, 32, length / 2 + 1));
            yield return Define(new("cauchy_multiply_backward", "S4 on LRA", 1, quick ? 16 : 256, 32, length / 2 + 1));
            yield return Define(new("vandermonde_multiply", "S4D on LRA", 1, quick ? 16 : 256, 32, length));
            yield return Define(new("vandermonde_multiply_backward", "S4D on LRA", 1, quick ? 16 : 256, 32, length));
        }
        foreach (var length in (int[])(quick ? [1024, 1 << 16] : [4096, 1 << 20]))
        {
            yield return Define(new("diagonal_kernel", "S4D kernel", 1, quick ? 4 : 256, 64, length));
            yield return Define(new("diagonal_kernel_backward", "S4D kernel", 1, quick ? 4 : 256, 64, length));
        }
        foreach (var operation in (string[])["diagonal_ssm", "diagonal_ssm_backward"])
        {
            yield return Define(new(operation, "S4D sequential CIFAR", quick ? 2 : 50, quick ? 16 : 256, 32, 1024));
            yield return Define(new(operation, "SaShiMi audio", 1, quick ? 4 : 64, 32, quick ? 4096 : 128000));
        }
        foreach (var batch in (int[])(quick ? [1, 2] : [1, 50]))
        {
            yield return Define(new("diagonal_scan", "S5 on LRA", batch, 1, 256, quick ? 2048 : 16384));
        }
    }

    private static BenchmarkDefinition Define(Sizes sizes) =>
        new(sizes.Operation, sizes.ToString(), sizes.Operation is "diagonal_scan" or "discretize_diagonal" ? "complex64" : "float32",
            device => new Case(device, sizes));

    private sealed record Sizes(string Operation, string Name, int Batch, int Rows, int States, int Length)
    {
        public long Poles => (long)Rows * States;

        /// <summary>Pairs of a state and a step.</summary>
        public long Terms => Batch * Poles * Length;

        public override string ToString() =>
            string.Create(CultureInfo.InvariantCulture, $"{Name} B{Batch} H{Rows} N{States} L{Length}");
    }

    private sealed unsafe class Case : BenchmarkCase
    {
        // States and steps that the plain loop gets through in about a second.
        private const long MostLoopTerms = 1L << 28;

        private readonly SsmContext context;
        private readonly Sizes sizes;
        private readonly List<IDisposable> owned = [];
        private readonly BenchmarkTensor<Complex64> v;
        private readonly BenchmarkTensor<Complex64> w; // poles, exponents or eigenvalues
        private readonly BenchmarkTensor<Complex64> b;
        private readonly BenchmarkTensor<Complex64> z; // nodes
        private readonly BenchmarkTensor<float> dt;
        private readonly BenchmarkTensor<float> u; // or a gradient that comes in
        private readonly BenchmarkTensor<Complex64> complexIn;
        private readonly BenchmarkTensor<float> y;
        private readonly BenchmarkTensor<Complex64> complexOut;
        private readonly BenchmarkTensor<Complex64> gradV;
        private readonly BenchmarkTensor<Complex64> gradW;
        private readonly BenchmarkTensor<Complex64> gradB;
        private readonly BenchmarkTensor<float> gradDt;
        private readonly HostArray<float> loopResult;
        private readonly HostArray<Complex64> loopComplex;

        public Case(BenchmarkDevice device, Sizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            var isScan = sizes.Operation == "diagonal_scan";
            var isCauchy = IsOf("cauchy");
            var isVandermonde = IsOf("vandermonde");
            nint[] poles = isScan ? [sizes.States] : [sizes.Rows, sizes.States];
            nint[] sequence = IsOf("diagonal_ssm") ? [sizes.Batch, sizes.Rows, sizes.Length] : [sizes.Rows, sizes.Length];
            nint[] nodes = isScan ? [sizes.Batch, sizes.States, sizes.Length] : sequence;
            v = Input<Complex64>(1, poles, (_, x, phase) => new(2 * x - 1, 2 * phase - 1));
            b = Input<Complex64>(2, poles, (_, x, phase) => new(2 * x - 1, 2 * phase - 1));
            // S4D-Lin, damped by a half; for sums of exponentials times a step of 0.001 to 0.1.
            w = Input<Complex64>(3, poles, (i, x, _) =>
            {
                var step = isVandermonde ? MathF.Pow(10, 2 * x - 3) : 1;
                return new(-0.5f * step, MathF.PI * (i % sizes.States) * step);
            });
            dt = Input<float>(4, [isScan ? sizes.States : sizes.Rows], (_, x, _) => MathF.Pow(10, 2 * x - 3));
            z = Input<Complex64>(5, [isCauchy ? sizes.Length : 1],
                (l, _, _) => new(0.01f, 2 * MathF.Tan(MathF.PI * l / (2 * sizes.Length + 1))));
            u = Input<float>(6, isCauchy || isScan ? [1] : sequence, (_, x, _) => 2 * x - 1);
            complexIn = Input<Complex64>(7, isCauchy || isScan ? nodes : [1], (_, x, phase) => new(2 * x - 1, 2 * phase - 1));
            y = Output<float>(isCauchy || isScan ? [1] : sequence);
            complexOut = Output<Complex64>(isCauchy || isScan ? nodes : [1]);
            gradV = Output<Complex64>(poles);
            gradW = Output<Complex64>(poles);
            gradB = Output<Complex64>(poles);
            gradDt = Output<float>([isScan ? sizes.States : sizes.Rows]);
            loopResult = new HostArray<float>(HasLoop ? y.Host.Length : 1);
            loopComplex = new HostArray<Complex64>(HasLoop ? Math.Max(complexOut.Host.Length, sizes.Poles) : 1);
            owned.AddRange([loopResult, loopComplex]);

            BenchmarkTensor<T> Input<T>(int seed, nint[] shape, Func<long, float, float, T> convert)
                where T : unmanaged
            {
                var random = new Random(seed);
                var tensor = device.Input<T>(shape, Strides.Compact(shape), array =>
                {
                    for (long i = 0; i < array.Length; i++)
                    {
                        array.Pointer[i] = convert(i, random.NextSingle(), random.NextSingle());
                    }
                });
                owned.Add(tensor);
                return tensor;
            }

            BenchmarkTensor<T> Output<T>(nint[] shape)
                where T : unmanaged
            {
                var tensor = device.Output<T>(shape, Strides.Compact(shape));
                owned.Add(tensor);
                return tensor;
            }
        }

        public override Bound Bound =>
            sizes.Operation is "diagonal_scan" or "discretize_diagonal" ? Bound.Memory : Bound.Arithmetic;

        public override bool HasLoop => sizes.Terms <= MostLoopTerms;

        public override long Bytes => sizes.Operation switch
        {
            "cauchy_multiply" => 8 * (sizes.Rows * (long)sizes.Length + sizes.Length + 2 * sizes.Poles),
            "cauchy_multiply_backward" => 8 * (sizes.Rows * (long)sizes.Length + sizes.Length + 4 * sizes.Poles),
            "vandermonde_multiply" or "diagonal_kernel" => 4L * sizes.Rows * sizes.Length + 16 * sizes.Poles,
            "vandermonde_multiply_backward" => 4L * sizes.Rows * sizes.Length + 32 * sizes.Poles,
            "diagonal_kernel_backward" => 4L * sizes.Rows * sizes.Length + 48 * sizes.Poles + 8 * sizes.Rows,
            "discretize_diagonal" => 32 * sizes.Poles + 4 * sizes.Rows,
            "diagonal_ssm" => 8L * sizes.Batch * sizes.Rows * sizes.Length + 24 * sizes.Poles,
            "diagonal_ssm_backward" => 12L * sizes.Batch * sizes.Rows * sizes.Length + 48 * sizes.Poles,
            _ => 16 * sizes.Terms,
        };

        // Of a state and a step, by the formulas: quotients of pairs of differences; products and sums of two tables; polynomials
        // and their derivatives; complex products of the state with a_bar and of its real part with c. Of a pole an exponential, a
        // sine and a cosine as one each, products and a quotient.
        public override double Flops => sizes.Terms * (double)(sizes.Operation switch
        {
            "cauchy_multiply" => 24,
            "cauchy_multiply_backward" => 56,
            "vandermonde_multiply" or "diagonal_kernel" => 4,
            "vandermonde_multiply_backward" or "diagonal_kernel_backward" => 16,
            "discretize_diagonal" => 22,
            "diagonal_ssm" => 14,
            "diagonal_ssm_backward" => 44,
            _ => 14,
        });

        public override double Tolerance => 2e-4;

        // The direct formula in NumPy and PyTorch, where they can hold its terms.
        public override PeerTask? PeerTask =>
            sizes.Operation is "cauchy_multiply" or "vandermonde_multiply" or "diagonal_kernel" or "diagonal_ssm" or "diagonal_scan"
                ? new(sizes.Operation, "float32", sizes.Batch, sizes.Rows, sizes.Length) { States = sizes.States }
                : null;

        public override void Run()
        {
            switch (sizes.Operation)
            {
                case "cauchy_multiply":
                    context.CauchyMultiply(v.Device, w.Device, z.Device, complexOut.Device, new() { ConjugatePairs = true });
                    break;
                case "cauchy_multiply_backward":
                    context.CauchyMultiplyBackward(v.Device, w.Device, z.Device, complexIn.Device,
                        new() { ConjugatePairs = true, GradV = gradV.Device, GradW = gradW.Device });
                    break;
                case "vandermonde_multiply":
                    context.VandermondeMultiply(v.Device, w.Device, y.Device, new() { ConjugatePairs = true });
                    break;
                case "vandermonde_multiply_backward":
                    context.VandermondeMultiplyBackward(v.Device, w.Device, u.Device,
                        new() { ConjugatePairs = true, GradV = gradV.Device, GradX = gradW.Device });
                    break;
                case "diagonal_kernel":
                    context.DiagonalKernel(w.Device, b.Device, v.Device, dt.Device, y.Device);
                    break;
                case "diagonal_kernel_backward":
                    context.DiagonalKernelBackward(w.Device, b.Device, v.Device, dt.Device, u.Device, new()
                    {
                        GradA = gradW.Device,
                        GradB = gradB.Device,
                        GradC = gradV.Device,
                        GradDt = gradDt.Device,
                    });
                    break;
                case "discretize_diagonal":
                    context.DiscretizeDiagonal(w.Device, dt.Device,
                        new() { B = b.Device, ABar = gradV.Device, BBar = gradW.Device });
                    break;
                case "diagonal_ssm":
                    context.DiagonalSsm(w.Device, b.Device, v.Device, dt.Device, u.Device, y.Device);
                    break;
                case "diagonal_ssm_backward":
                    context.DiagonalSsmBackward(w.Device, b.Device, v.Device, dt.Device, u.Device, u.Device,
                        new() { GradU = y.Device, GradC = gradV.Device, GradB = gradW.Device });
                    break;
                default:
                    context.DiagonalScan(w.Device, dt.Device, complexIn.Device, complexOut.Device);
                    break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            if (sizes.Operation == "diagonal_scan")
            {
                for (var row = 0L; row < (long)sizes.Batch * sizes.States; row++)
                {
                    var n = row % sizes.States;
                    var (decay, input) = Discretized(w.Host.Pointer[n], dt.Host.Pointer[n]);
                    Scan(complexIn.Host.Pointer + row * sizes.Length, loopComplex.Pointer + row * sizes.Length, Narrow(decay),
                        Narrow(input));
                }
                return;
            }
            for (var row = 0; row < sizes.Rows; row++)
            {
                for (var n = 0; n < sizes.States; n++)
                {
                    RunState(row, (long)row * sizes.States + n, n == 0);
                }
            }
        }

        // One state of one row, what it gives being added to what the states before it gave.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void RunState(int row, long index, bool isFirst)
        {
            var own = w.Host.Pointer[index];
            var factor = v.Host.Pointer[index];
            switch (sizes.Operation)
            {
                case "cauchy_multiply":
                    for (var l = 0; l < sizes.Length; l++)
                    {
                        var node = z.Host.Pointer[l];
                        var to = loopComplex.Pointer + (long)row * sizes.Length + l;
                        *to = (isFirst ? default : *to) + factor / (node - own)
                            + Complex64.Conjugate(factor) / (node - Complex64.Conjugate(own));
                    }
                    break;
                case "cauchy_multiply_backward":
                    Complex64 sum = default;
                    Complex64 squares = default;
                    for (var l = 0; l < sizes.Length; l++)
                    {
                        var node = z.Host.Pointer[l];
                        var g = complexIn.Host.Pointer[(long)row * sizes.Length + l];
                        var first = Complex64.Conjugate(Complex64.One / (node - own));
                        var second = Complex64.One / (node - Complex64.Conjugate(own));
                        sum += g * first + Complex64.Conjugate(g) * second;
                        squares += g * first * first + Complex64.Conjugate(g) * second * second;
                    }
                    loopComplex.Pointer[index] = sum + squares;
                    break;
                case "discretize_diagonal":
                    var (aBar, factorOfB) = Discretized(own, dt.Host.Pointer[row]);
                    loopComplex.Pointer[index] = Narrow(aBar) + Narrow(factorOfB * Widen(b.Host.Pointer[index]));
                    break;
                case "vandermonde_multiply" or "vandermonde_multiply_backward" or "diagonal_kernel" or "diagonal_kernel_backward":
                    var (exponent, scale) = Exponential(row, index);
                    Powers(row, exponent, Narrow(scale), index, isFirst);
                    break;
                default:
                    var (decay, input) = Discretized(own, dt.Host.Pointer[row]);
                    for (var batch = 0; batch < sizes.Batch; batch++)
                    {
                        Recurrence(((long)batch * sizes.Rows + row) * sizes.Length, Narrow(decay),
                            Narrow(input * Widen(b.Host.Pointer[index])), factor, isFirst);
                    }
                    break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void Powers(int row, Complex exponent, Complex64 scale, long index, bool isFirst)
        {
            var isBackward = sizes.Operation.EndsWith("_backward", StringComparison.Ordinal);
            var to = loopResult.Pointer + (long)row * sizes.Length;
            var from = u.Host.Pointer + (long)row * sizes.Length;
            var step = Narrow(Complex.Exp(exponent));
            var power = scale;
            Complex64 sum = default;
            for (var l = 0; l < sizes.Length; l++)
            {
                if (l % 64 == 0) // phases that a chain of products would lose
                {
                    power = Narrow(Widen(scale) * Complex.Exp(exponent * l));
                }
                if (isBackward)
                {
                    sum += new Complex64(from[l] * power.Real * (1 + l), from[l] * power.Imaginary * (1 + l));
                }
                else
                {
                    to[l] = (isFirst ? 0 : to[l]) + 2 * power.Real;
                }
                power *= step;
            }
            loopComplex.Pointer[isBackward ? index : 0] = sum;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void Recurrence(long begin, Complex64 decay, Complex64 input, Complex64 output, bool isFirst)
        {
            var from = u.Host.Pointer + begin;
            var to = loopResult.Pointer + begin;
            Complex64 x = default;
            if (sizes.Operation == "diagonal_ssm_backward")
            {
                var backward = Complex64.Conjugate(decay);
                for (var t = sizes.Length - 1; t >= 0; t--)
                {
                    x += new Complex64(2 * output.Real * from[t], -2 * output.Imaginary * from[t]);
                    to[t] = (isFirst ? 0 : to[t]) + input.Real * x.Real + input.Imaginary * x.Imaginary;
                    x *= backward;
                }
                return;
            }
            for (var t = 0; t < sizes.Length; t++)
            {
                x = decay * x + new Complex64(input.Real * from[t], input.Imaginary * from[t]);
                to[t] = (isFirst ? 0 : to[t]) + 2 * (output.Real * x.Real - output.Imaginary * x.Imaginary);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void Scan(Complex64* from, Complex64* to, Complex64 decay, Complex64 input)
        {
            Complex64 x = default;
            for (var t = 0; t < sizes.Length; t++)
            {
                x = decay * x + input * from[t];
                to[t] = x;
            }
        }

        // Of the outputs that are sequences, and of the gradient of v; some rows, so that it does not take longer than the benchmark.
        public override double MaxError()
        {
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Operation == "diagonal_scan" ? sizes.States : sizes.Rows,
                (long)sizes.Length * sizes.States * 16))
            {
                switch (sizes.Operation)
                {
                    case "diagonal_scan":
                        CompareScan(row, ref meter);
                        break;
                    case "diagonal_ssm" or "diagonal_ssm_backward":
                        CompareRecurrence(row, ref meter);
                        break;
                    case "cauchy_multiply_backward" or "vandermonde_multiply_backward" or "diagonal_kernel_backward":
                        CompareGradients(row, ref meter);
                        break;
                    case "discretize_diagonal":
                        ComparePoles(row, ref meter);
                        break;
                    default:
                        CompareSums(row, ref meter);
                        break;
                }
            }
            return meter.Error;
        }

        private void CompareScan(long state, ref ErrorMeter meter)
        {
            var result = complexOut.ToHost();
            var (decay, input) = Discretized(w.Host.Pointer[state], dt.Host.Pointer[state]);
            var x = Complex.Zero;
            for (var t = 0; t < sizes.Length; t++)
            {
                x = decay * x + input * Widen(complexIn.Host.Pointer[state * sizes.Length + t]);
                meter.Add(Widen(result.Pointer[state * sizes.Length + t]), x);
            }
        }

        private void CompareSums(long row, ref ErrorMeter meter)
        {
            var isCauchy = IsOf("cauchy");
            var complexResult = complexOut.ToHost();
            var result = y.ToHost();
            var stride = Math.Max(1, sizes.Length / 1000);
            for (long l = 0; l < sizes.Length; l += stride)
            {
                var sum = Complex.Zero;
                for (var index = row * sizes.States; index < (row + 1) * sizes.States; index++)
                {
                    if (isCauchy)
                    {
                        var (factor, pole, node) =
                            (Widen(v.Host.Pointer[index]), Widen(w.Host.Pointer[index]), Widen(z.Host.Pointer[l]));
                        sum += factor / (node - pole) + Complex.Conjugate(factor) / (node - Complex.Conjugate(pole));
                    }
                    else
                    {
                        var (exponent, scale) = Exponential((int)row, index);
                        sum += 2 * (scale * Complex.Exp(exponent * l)).Real;
                    }
                }
                if (isCauchy)
                {
                    meter.Add(Widen(complexResult.Pointer[row * sizes.Length + l]), sum);
                }
                else
                {
                    meter.Add(result.Pointer[row * sizes.Length + l], sum.Real);
                }
            }
        }

        private void CompareGradients(long row, ref ErrorMeter meter)
        {
            var result = gradV.ToHost();
            for (var index = row * sizes.States; index < (row + 1) * sizes.States; index++)
            {
                var sum = Complex.Zero;
                for (var l = 0; l < sizes.Length; l++)
                {
                    if (IsOf("cauchy"))
                    {
                        var (pole, node) = (Widen(w.Host.Pointer[index]), Widen(z.Host.Pointer[l]));
                        var g = Widen(complexIn.Host.Pointer[row * sizes.Length + l]);
                        sum += g * Complex.Conjugate(1 / (node - pole)) + Complex.Conjugate(g) / (node - Complex.Conjugate(pole));
                    }
                    else
                    {
                        var (exponent, scale) = Exponential((int)row, index);
                        sum += 2 * u.Host.Pointer[row * sizes.Length + l] * Complex.Conjugate(scale * Complex.Exp(exponent * l));
                    }
                }
                meter.Add(Widen(result.Pointer[index]), sum);
            }
        }

        private void ComparePoles(long row, ref ErrorMeter meter)
        {
            var (aBar, bBar) = (gradV.ToHost(), gradW.ToHost());
            for (var index = row * sizes.States; index < (row + 1) * sizes.States; index++)
            {
                var (decay, input) = Discretized(w.Host.Pointer[index], dt.Host.Pointer[row]);
                meter.Add(Widen(aBar.Pointer[index]), decay);
                meter.Add(Widen(bBar.Pointer[index]), input * Widen(b.Host.Pointer[index]));
            }
        }

        // y, or the gradient of u.
        private void CompareRecurrence(long row, ref ErrorMeter meter)
        {
            var result = y.ToHost();
            var isBackward = sizes.Operation == "diagonal_ssm_backward";
            var at = ((sizes.Batch - 1L) * sizes.Rows + row) * sizes.Length;
            var expected = new double[sizes.Length];
            for (var index = row * sizes.States; index < (row + 1) * sizes.States; index++)
            {
                var (decay, input) = Discretized(w.Host.Pointer[index], dt.Host.Pointer[row]);
                input *= Widen(b.Host.Pointer[index]);
                var output = Widen(v.Host.Pointer[index]);
                var x = Complex.Zero;
                for (var i = 0; i < sizes.Length; i++)
                {
                    var t = isBackward ? sizes.Length - 1 - i : i;
                    if (isBackward)
                    {
                        x += 2 * Complex.Conjugate(output) * u.Host.Pointer[at + t];
                        expected[t] += (Complex.Conjugate(input) * x).Real;
                        x *= Complex.Conjugate(decay);
                    }
                    else
                    {
                        x = decay * x + input * u.Host.Pointer[at + t];
                        expected[t] += 2 * (output * x).Real;
                    }
                }
            }
            for (var t = 0; t < sizes.Length; t++)
            {
                meter.Add(result.Pointer[at + t], expected[t]);
            }
        }

        // The exponent and the factor of a state's exponentials.
        private (Complex Exponent, Complex Scale) Exponential(int row, long index)
        {
            var own = Widen(w.Host.Pointer[index]);
            if (!IsOf("diagonal_kernel"))
            {
                return (own, IsOf("vandermonde_multiply_backward") ? Complex.One : Widen(v.Host.Pointer[index]));
            }
            var (_, input) = Discretized(w.Host.Pointer[index], dt.Host.Pointer[row]);
            var factor = IsOf("diagonal_kernel_backward") ? Complex.One : Widen(v.Host.Pointer[index]);
            return (own * dt.Host.Pointer[row], factor * Widen(b.Host.Pointer[index]) * input);
        }

        // a_bar and b_bar / b of the hold of zeroth order.
        private static (Complex Decay, Complex Input) Discretized(Complex64 a, float dt)
        {
            var decay = Complex.Exp(Widen(a) * dt);
            return (decay, (decay - 1) / Widen(a));
        }

        private bool IsOf(string name) => sizes.Operation.StartsWith(name, StringComparison.Ordinal);

        private static Complex Widen(Complex64 value) => new(value.Real, value.Imaginary);

        private static Complex64 Narrow(Complex value) => new((float)value.Real, (float)value.Imaginary);

        public override void Dispose() => owned.ForEach(tensor => tensor.Dispose());
    }
}
