namespace SsmCuda.Tool.Pictures;

/// <summary>A mass on a spring as a state space of position and velocity, m x'' = u - b x' - k x, made discrete by the
/// bilinear rule: the example of the Annotated S4 (Rush and Karamcheti 2022).</summary>
internal sealed record SpringMotion(double[] Times, double[] Force, double[] Position, double[] ABar, double[] BBar)
{
    public const double Stiffness = 40;
    public const double Damping = 5;
    public const double Mass = 1;
    public const int Steps = 100;
    public const double Dt = 0.01;

    /// <summary>The pushes of a swinging hand that lets go halfway: sin 10 t where that is above 1/2.</summary>
    public static double ForceAt(double time)
    {
        var force = Math.Sin(10 * time);
        return force > 0.5 ? force : 0;
    }

    public static SpringMotion Compute(SsmContext context)
    {
        double[] a = [0, 1, -Stiffness / Mass, -Damping / Mass];
        double[] b = [0, 1 / Mass];
        double[] c = [1, 0];
        double[] dt = [Dt];
        var times = Enumerable.Range(0, Steps).Select(step => step * Dt).ToArray();
        var force = times.Select(ForceAt).ToArray();

        var (aBar, bBar) = (new double[4], new double[2]);
        context.DiscretizeDense(SsmDiscretization.Bilinear, ReadOnlyTensorView.Create<double>(a, 1, 2, 2),
            ReadOnlyTensorView.Create<double>(b, 1, 2), ReadOnlyTensorView.Create<double>(dt, 1),
            TensorView.Create<double>(aBar, 1, 2, 2), TensorView.Create<double>(bBar, 1, 2));

        using var deviceA = context.ToDevice<double>(a, 1, 2, 2);
        using var deviceB = context.ToDevice<double>(b, 1, 2);
        using var deviceC = context.ToDevice<double>(c, 1, 2);
        using var deviceDt = context.ToDevice<double>(dt, 1);
        using var u = context.ToDevice<double>(force, 1, 1, Steps);
        using var y = context.Allocate<double>(1, 1, Steps);
        context.DenseSsm(SsmDiscretization.Bilinear, deviceA, deviceB, deviceC, deviceDt, u, y);
        return new SpringMotion(times, force, y.ToArray(), aBar, bBar);
    }
}
