namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of a and of the states.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class Mamba3BackwardTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    [Test]
    public void DeviceTensors_match_differences([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool packed, [Values(1, 40)] int length)
    {
        using var context = SsmContext.Create(device);
        using var inputs = new Mamba3Inputs<T, TState>(context, packed ? 1 : 2, length, full,
            packed ? [0, length / 2, length / 2, length] : null);
        var (gradY, wY) = inputs.Weights(inputs.X);
        var (gradLast, wLast) = inputs.Weights(inputs.State);
        var (gradLastAngle, wAngle) = inputs.Weights(inputs.Angle);
        var (gradLastB, wB) = inputs.Weights(inputs.LastK);
        var (gradLastX, wX) = inputs.Weights(inputs.LastX);
        var (gradX, gradDt, gradA) = (inputs.Like(inputs.X), inputs.Like(inputs.Dt), inputs.Like(inputs.A));
        var (gradB, gradC, gradTrap) = (inputs.Like(inputs.B), inputs.Like(inputs.C), inputs.Like(inputs.Trap));
        var (gradAngles, gradZ, gradD) = (inputs.Like(inputs.AngleRates), inputs.Like(inputs.Z), inputs.Like(inputs.D));
        var (gradBBias, gradCBias, gradDtBias) =
            (inputs.Like(inputs.BBias), inputs.Like(inputs.CBias), inputs.Like(inputs.DtBias));
        var (gradInitial, gradInitialAngle) = (inputs.Like(inputs.State), inputs.Like(inputs.Angle));
        var (gradInitialB, gradInitialX) = (inputs.Like(inputs.LastK), inputs.Like(inputs.LastX));
        context.Mamba3Backward(inputs.X, inputs.Dt, inputs.A, inputs.B, inputs.C, inputs.Trap, gradY, new()
        {
            DtSoftplus = full,
            Angles = full ? inputs.AngleRates : null,
            BBias = full ? inputs.BBias : null,
            CBias = full ? inputs.CBias : null,
            D = full ? inputs.D : null,
            Z = full ? inputs.Z : null,
            DtBias = full ? inputs.DtBias : null,
            InitialState = full ? inputs.State : null,
            InitialAngle = full ? inputs.Angle : null,
            InitialB = full ? inputs.LastK : null,
            InitialX = full ? inputs.LastX : null,
            CuSeqlens = inputs.CuSeqlens,
            GradLastState = gradLast,
            GradLastAngle = full ? gradLastAngle : null,
            GradLastB = gradLastB,
            GradLastX = gradLastX,
            GradX = gradX,
            GradDt = gradDt,
            GradA = gradA,
            GradB = gradB,
            GradC = gradC,
            GradTrap = gradTrap,
            GradAngles = full ? gradAngles : null,
            GradBBias = gradBBias,
            GradCBias = gradCBias,
            GradD = gradD,
            GradZ = full ? gradZ : null,
            GradDtBias = gradDtBias,
            GradInitialState = gradInitial,
            GradInitialAngle = full ? gradInitialAngle : null,
            GradInitialB = full ? gradInitialB : null,
            GradInitialX = full ? gradInitialX : null,
        });

        var random = new Random(length + 1);
        var reference = inputs.Reference;
        Check(gradX, reference.X, values => reference with { X = values }, "grad_x");
        Check(gradDt, reference.Dt, values => reference with { Dt = values }, "grad_dt");
        Check(gradA, reference.A, values => reference with { A = values }, "grad_a");
        Check(gradB, reference.B, values => reference with { B = values }, "grad_b");
        Check(gradC, reference.C, values => reference with { C = values }, "grad_c");
        Check(gradTrap, reference.Trap, values => reference with { Trap = values }, "grad_trap");
        Check(gradBBias, reference.BBias, values => reference with { BBias = values }, "grad_b_bias");
        Check(gradCBias, reference.CBias, values => reference with { CBias = values }, "grad_c_bias");
        Check(gradD, reference.D, values => reference with { D = values }, "grad_d");
        Check(gradDtBias, reference.DtBias, values => reference with { DtBias = values }, "grad_dt_bias");
        Check(gradInitial, reference.InitialState, values => reference with { InitialState = values }, "grad_initial_state");
        if (!full)
            return;
        Check(gradAngles, reference.AngleRates, values => reference with { AngleRates = values }, "grad_angles");
        Check(gradZ, reference.Z, values => reference with { Z = values }, "grad_z");
        Check(gradInitialAngle, reference.InitialAngle, values => reference with { InitialAngle = values },
            "grad_initial_angle");
        Check(gradInitialB, reference.InitialB, values => reference with { InitialB = values }, "grad_initial_b");
        Check(gradInitialX, reference.InitialX, values => reference with { InitialX = values }, "grad_initial_x");

        // The derivative along a random direction, by central differences of the definition.
        void Check<TValue>(DeviceTensor<TValue> tensor, double[]? given, Func<double[], Mamba3Reference> moved, string name)
            where TValue : unmanaged
        {
            const double step = 1e-5;
            var gradient = tensor.ToArray();
            var at = given ?? new double[gradient.Length];
            var direction = Array.ConvertAll(at, _ => (2 * random.NextDouble()) - 1);
            var difference = (Loss(moved(Moved(step))) - Loss(moved(Moved(-step)))) / (2 * step);
            var (slope, magnitude) = (0.0, 0.0);
            for (var i = 0; i < at.Length; i++)
            {
                var part = Numbers.ToComplex(gradient[i]).Real * direction[i];
                slope += part;
                magnitude += Math.Abs(part);
            }
            var tolerance = typeof(T) == typeof(double) ? 1e-7 : typeof(T) == typeof(float) ? 2e-5 : 3e-2;
            Assert.That(slope, Is.EqualTo(difference).Within(tolerance * Math.Max(magnitude, 1)), name);

            double[] Moved(double by) => [.. at.Select((value, i) => value + (by * direction[i]))];
        }

        double Loss(Mamba3Reference moved)
        {
            var (y, last, angle, k, x) = moved.Run();
            return Dot(y, wY) + Dot(last, wLast) + (full ? Dot(angle, wAngle) : 0) + Dot(k, wB) + Dot(x, wX);
        }
    }

    private static double Dot(double[] x, double[] y) => x.Zip(y, (a, b) => a * b).Sum();
}
