using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of a and of the states.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class SsdBackwardTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Heads = 4;
    private const int Channels = 3;
    private const int Groups = 2;
    private const int States = 5;

    [Test]
    public void DeviceTensors_match_differences([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool packed, [Values(1, 40)] int length)
    {
        var random = new Random(length);
        var batch = packed ? 1 : 2;
        long[]? cuSeqlens = packed ? [0, length / 2, length / 2, length] : null;
        var rows = packed ? 3 : batch;
        nint[] shape = [batch, length, Heads, Channels];
        nint[] perStep = [batch, length, Groups, States];
        nint[] stateShape = [rows, Heads, Channels, States];
        var x = Numbers.Random<T>(random, batch * length * Heads * Channels, -1, 1);
        var dt = Numbers.Random<T>(random, batch * length * Heads, full ? -3 : 0.01, full ? 1 : 0.3);
        var a = Array.ConvertAll(Numbers.Random<TState>(random, Heads, 0.2, 2),
            value => Numbers.FromComplex<TState>(-Complex.Abs(Numbers.ToComplex(value))));
        var b = Numbers.Random<T>(random, batch * length * Groups * States, -1, 1);
        var c = Numbers.Random<T>(random, batch * length * Groups * States, -1, 1);
        var d = Numbers.Random<TState>(random, Heads, -1, 1);
        var z = Numbers.Random<T>(random, x.Length, -1, 1);
        var dtBias = Numbers.Random<TState>(random, Heads, -1, 1);
        var s0 = Numbers.Random<TState>(random, rows * Heads * Channels * States, -1, 1);
        var gradY = Numbers.Random<T>(random, x.Length, -1, 1);
        var gradLast = Numbers.Random<TState>(random, s0.Length, -1, 1);
        var ids = new int[batch * length];
        for (var i = 0; i < ids.Length; i++)
            ids[i] = i / 9 % 2;
        var reference = new SsdReference(batch, length, Heads, Channels, Groups, States)
        {
            X = Real(x),
            Dt = Real(dt),
            A = Real(a),
            B = Real(b),
            C = Real(c),
            D = full ? Real(d) : null,
            Z = full ? Real(z) : null,
            DtBias = full ? Real(dtBias) : null,
            InitialState = full ? Real(s0) : null,
            SeqIdx = full ? ids : null,
            CuSeqlens = cuSeqlens,
            DtSoftplus = full,
        };

        using var context = SsmContext.Create(device);
        using var tx = context.ToDevice<T>(x, shape);
        using var tdt = context.ToDevice<T>(dt, batch, length, Heads);
        using var ta = context.ToDevice<TState>(a, Heads);
        using var tb = context.ToDevice<T>(b, perStep);
        using var tc = context.ToDevice<T>(c, perStep);
        using var td = context.ToDevice<TState>(d, Heads);
        using var tz = context.ToDevice<T>(z, shape);
        using var tdtBias = context.ToDevice<TState>(dtBias, Heads);
        using var initial = context.ToDevice<TState>(s0, stateShape);
        using var tids = context.ToDevice<int>(ids, batch, length);
        using var starts = cuSeqlens is null ? null : context.ToDevice<long>(cuSeqlens, cuSeqlens.Length);
        using var tGradY = context.ToDevice<T>(gradY, shape);
        using var tGradLast = context.ToDevice<TState>(gradLast, stateShape);
        using var gradX = context.Allocate<T>(shape);
        using var gradDt = context.Allocate<T>(batch, length, Heads);
        using var gradA = context.Allocate<TState>(Heads);
        using var gradB = context.Allocate<T>(perStep);
        using var gradC = context.Allocate<T>(perStep);
        using var gradD = context.Allocate<TState>(Heads);
        using var gradZ = context.Allocate<T>(shape);
        using var gradDtBias = context.Allocate<TState>(Heads);
        using var gradInitial = context.Allocate<TState>(stateShape);
        context.SsdBackward(tx, tdt, ta, tb, tc, tGradY, new()
        {
            DtSoftplus = full,
            D = full ? td : null,
            Z = full ? tz : null,
            DtBias = full ? tdtBias : null,
            InitialState = full ? initial : null,
            SeqIdx = full ? tids : null,
            CuSeqlens = starts,
            GradLastState = tGradLast,
            GradX = gradX,
            GradDt = gradDt,
            GradA = gradA,
            GradB = gradB,
            GradC = gradC,
            GradD = gradD,
            GradZ = full ? gradZ : null,
            GradDtBias = gradDtBias,
            GradInitialState = gradInitial,
        });

        var (wY, wLast) = (Real(gradY), Real(gradLast));
        Check(gradX.ToArray(), reference.X, values => reference with { X = values }, "grad_x");
        Check(gradDt.ToArray(), reference.Dt, values => reference with { Dt = values }, "grad_dt");
        Check(gradA.ToArray(), reference.A, values => reference with { A = values }, "grad_a");
        Check(gradB.ToArray(), reference.B, values => reference with { B = values }, "grad_b");
        Check(gradC.ToArray(), reference.C, values => reference with { C = values }, "grad_c");
        Check(gradD.ToArray(), reference.D ?? new double[Heads], values => reference with { D = values }, "grad_d");
        Check(gradDtBias.ToArray(), reference.DtBias ?? new double[Heads], values => reference with { DtBias = values },
            "grad_dt_bias");
        Check(gradInitial.ToArray(), reference.InitialState ?? new double[s0.Length],
            values => reference with { InitialState = values }, "grad_initial_state");
        if (full)
            Check(gradZ.ToArray(), reference.Z!, values => reference with { Z = values }, "grad_z");

        // The derivative along a random direction, by central differences of the definition.
        void Check<TValue>(TValue[] gradient, double[] at, Func<double[], SsdReference> moved, string name)
        {
            const double step = 1e-5;
            var direction = Array.ConvertAll(at, _ => (2 * random.NextDouble()) - 1);
            var difference = (Loss(moved(Moved(step))) - Loss(moved(Moved(-step)))) / (2 * step);
            var (slope, magnitude) = (0.0, 0.0);
            for (var i = 0; i < at.Length; i++)
            {
                var part = Numbers.ToComplex(gradient[i]).Real * direction[i];
                slope += part;
                magnitude += Math.Abs(part);
            }
            var tolerance = typeof(T) == typeof(double) ? 1e-7 : typeof(T) == typeof(float) ? 2e-5 : 2e-2;
            Assert.That(slope, Is.EqualTo(difference).Within(tolerance * Math.Max(magnitude, 1)), name);

            double[] Moved(double by) => [.. at.Select((value, i) => value + (by * direction[i]))];
        }

        double Loss(SsdReference moved)
        {
            var (y, last) = moved.Run();
            return y.Zip(wY, (value, weight) => value * weight).Sum() + last.Zip(wLast, (value, weight) => value * weight).Sum();
        }
    }

    private static double[] Real<TValue>(TValue[] values) => Array.ConvertAll(values, value => Numbers.ToComplex(value).Real);
}
