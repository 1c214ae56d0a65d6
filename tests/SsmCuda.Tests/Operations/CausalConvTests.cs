namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of u, TState that of kernels and states.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class CausalConvTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Batch = 2;
    private const int Heads = 3;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 5, 300)] int taps, [Values] bool isReversed, [Values(1, 260)] int length)
    {
        var problem = new Problem(taps, length, isReversed);
        using var context = SsmContext.Create(device);
        using var call = new Call(context, problem);
        using var y = context.Allocate<T>(Batch, Heads, length);
        using var last = context.Allocate<TState>(Batch, Heads, taps - 1);
        context.CausalConv(call.U, call.K, y, new()
        {
            KReverse = isReversed ? call.KReverse : null,
            D = call.D,
            PreGate = call.PreGate,
            PostGate = call.PostGate,
            LastState = isReversed ? default : last,
        });

        var (expected, expectedLast) = problem.Forward();
        Numbers.AssertClose(y.ToArray(), Numbers.ToComplex(expected), "y");
        if (!isReversed)
            Numbers.AssertClose(last.ToArray(), Numbers.ToComplex(expectedLast), "last_state");
    }

    [Test]
    public void A_prepared_spectrum_gives_the_same([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool isReversed)
    {
        var problem = new Problem(300, 700, isReversed);
        using var context = SsmContext.Create(device);
        using var call = new Call(context, problem);
        using var y = context.Allocate<T>(Batch, Heads, 700);
        var options = new CausalConvOptions
        {
            KReverse = isReversed ? call.KReverse : null,
            D = call.D,
            PreGate = call.PreGate,
            PostGate = call.PostGate,
        };
        var numbers = context.CausalConvSpectrumLength(call.U, call.K, options);
        using var spectrum = context.Allocate<TState>(Heads, (nint)numbers);
        context.CausalConvPlan(call.K, spectrum, isReversed ? call.KReverse : null);
        options.Spectrum = spectrum;
        context.CausalConv(call.U, call.K, y, options);

        Assert.That(long.IsPow2(numbers), $"{numbers} numbers");
        Numbers.AssertClose(y.ToArray(), Numbers.ToComplex(problem.Forward().Y), "y");
    }

    [Test]
    public void Gradients_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 5, 300)] int taps, [Values] bool isReversed, [Values(1, 260)] int length)
    {
        var problem = new Problem(taps, length, isReversed);
        using var context = SsmContext.Create(device);
        using var call = new Call(context, problem);
        using var gradY = context.ToDevice<T>(problem.GradY, Batch, Heads, length);
        using var gradU = context.Allocate<T>(Batch, Heads, length);
        using var gradK = context.Allocate<TState>(Heads, taps);
        using var gradKReverse = context.Allocate<TState>(Heads, taps);
        using var gradD = context.Allocate<TState>(Heads);
        context.CausalConvBackward(call.U, call.K, gradY, new()
        {
            KReverse = isReversed ? call.KReverse : null,
            D = call.D,
            PreGate = call.PreGate,
            PostGate = call.PostGate,
            GradU = gradU,
            GradK = gradK,
            GradKReverse = isReversed ? gradKReverse : default,
            GradD = gradD,
        });

        var expected = problem.Backward();
        Numbers.AssertClose(gradU.ToArray(), Numbers.ToComplex(expected.U), "grad_u");
        Numbers.AssertClose(gradK.ToArray(), Numbers.ToComplex(expected.K), "grad_k");
        Numbers.AssertClose(gradD.ToArray(), Numbers.ToComplex(expected.D), "grad_d");
        if (isReversed)
            Numbers.AssertClose(gradKReverse.ToArray(), Numbers.ToComplex(expected.KReverse), "grad_k_reverse");
    }

    [Test]
    public void A_wrong_argument_is_named([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        var problem = new Problem(5, 20, true);
        using var context = SsmContext.Create(device);
        using var call = new Call(context, problem);
        using var y = context.Allocate<T>(Batch, Heads, 20);
        using var last = context.Allocate<TState>(Batch, Heads, 4);
        Assert.That(() => context.CausalConv(call.U, call.K, y, new() { KReverse = call.KReverse, LastState = last }),
            Throws.InstanceOf<SsmException>().With.Message.Contains("last_state: NULL beside k_reverse"));
    }

    /// <summary>The inputs on a device.</summary>
    private sealed class Call(SsmContext context, Problem problem) : IDisposable
    {
        public DeviceTensor<T> U { get; } = context.ToDevice<T>(problem.U, Batch, Heads, problem.Length);

        public DeviceTensor<T> PreGate { get; } = context.ToDevice<T>(problem.PreGate, Batch, Heads, problem.Length);

        public DeviceTensor<T> PostGate { get; } = context.ToDevice<T>(problem.PostGate, Batch, Heads, problem.Length);

        public DeviceTensor<TState> K { get; } = context.ToDevice<TState>(problem.K, Heads, problem.Taps);

        public DeviceTensor<TState> KReverse { get; } = context.ToDevice<TState>(problem.KReverse, Heads, problem.Taps);

        public DeviceTensor<TState> D { get; } = context.ToDevice<TState>(problem.D, Heads);

        public void Dispose()
        {
            U.Dispose();
            PreGate.Dispose();
            PostGate.Dispose();
            K.Dispose();
            KReverse.Dispose();
            D.Dispose();
        }
    }

    /// <summary>A call as arrays, and what it has to give, by loops over the definition in doubles.</summary>
    private sealed class Problem
    {
        private readonly bool isReversed;

        public Problem(int taps, int length, bool isReversed)
        {
            (Taps, Length, this.isReversed) = (taps, length, isReversed);
            var random = new Random(taps + length);
            U = Numbers.Random<T>(random, Batch * Heads * length, -1, 1);
            PreGate = Numbers.Random<T>(random, Batch * Heads * length, -1, 1);
            PostGate = Numbers.Random<T>(random, Batch * Heads * length, -1, 1);
            GradY = Numbers.Random<T>(random, Batch * Heads * length, -1, 1);
            K = Numbers.Random<TState>(random, Heads * taps, -0.2, 0.2);
            KReverse = Numbers.Random<TState>(random, Heads * taps, -0.2, 0.2);
            D = Numbers.Random<TState>(random, Heads, -1, 1);
        }

        public int Taps { get; }

        public int Length { get; }

        public T[] U { get; }

        public T[] PreGate { get; }

        public T[] PostGate { get; }

        public T[] GradY { get; }

        public TState[] K { get; }

        public TState[] KReverse { get; }

        public TState[] D { get; }

        public (double[] Y, double[] LastState) Forward()
        {
            var y = new double[U.Length];
            var last = new double[Batch * Heads * (Taps - 1)];
            for (var row = 0; row < Batch * Heads; row++)
            {
                var at = row * Length;
                for (var t = 0; t < Length; t++)
                {
                    var sum = Real(D[row % Heads]) * X(at + t);
                    foreach (var (tap, s) in Met(row % Heads, t))
                        sum += tap * X(at + s);
                    y[at + t] = sum * Real(PostGate[at + t]);
                }
                for (var i = 0; i < Taps - 1; i++)
                {
                    var t = Length - Taps + 1 + i;
                    last[row * (Taps - 1) + i] = t < 0 ? 0 : X(at + t);
                }
            }
            return (y, last);
        }

        public (double[] U, double[] K, double[] KReverse, double[] D) Backward()
        {
            var (gradX, gradK) = (new double[U.Length], new double[K.Length]);
            var (gradKReverse, gradD) = (new double[K.Length], new double[Heads]);
            for (var row = 0; row < Batch * Heads; row++)
            {
                var (at, head) = (row * Length, row % Heads);
                for (var t = 0; t < Length; t++)
                {
                    var g = Real(GradY[at + t]) * Real(PostGate[at + t]);
                    gradD[head] += g * X(at + t);
                    gradX[at + t] += g * Real(D[head]);
                    foreach (var (tap, s) in Met(head, t))
                    {
                        gradX[at + s] += g * tap;
                        (s <= t ? gradK : gradKReverse)[head * Taps + (s <= t ? t - s : s - t - 1)] += g * X(at + s);
                    }
                }
            }
            return ([.. gradX.Select((value, i) => value * Real(PreGate[i]))], gradK, gradKReverse, gradD);
        }

        private static double Real<TValue>(TValue value) => Numbers.ToComplex(value).Real;

        private double X(int i) => Real(U[i]) * Real(PreGate[i]);

        // The taps that a step sums over, each with the step it meets.
        private IEnumerable<(double Tap, int Step)> Met(int head, int t)
        {
            for (var j = 0; j < Taps && j <= t; j++)
                yield return (Real(K[head * Taps + j]), t - j);
            for (var j = 0; isReversed && j < Taps && t + 1 + j < Length; j++)
                yield return (Real(KReverse[head * Taps + j]), t + 1 + j);
        }
    }
}
