using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The signal that HiPPO's coefficients stand for: f(x) = sum_n coefficients_n g_n(x), at points x from 0,
    /// the oldest, to 1, now. Legs: g_n = sqrt(2n+1) P_n(2x-1) over all of the past; Legt the same over its window;
    /// Lmu: P_n(1-2x); Fout: 1, sqrt(2) cos(pi k s), sqrt(2) sin(pi k s) with s = 2 (1-x); Lagt: exp(-s/2) L_n(s)
    /// with s = window (1-x). It runs at once on host memory, whatever the device of the context.</summary>
    /// <param name="measure">The measure.</param>
    /// <param name="coefficients">(N) or (B,N) of float or double.</param>
    /// <param name="points">(L) of the type of coefficients.</param>
    /// <param name="f">Output (L) or (B,L) of the type of coefficients.</param>
    /// <param name="window">How far back point 0 lies, in the measure's own time: Lagt needs it; 0 for the
    /// others.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void HippoReconstruct(SsmHippoMeasure measure, in ReadOnlyTensorView coefficients, in ReadOnlyTensorView points,
        in TensorView f, double window = 0)
    {
        fixed (byte* pCoefficients = coefficients, pPoints = points, pF = f)
        {
            using var call = new Call(this, isOnHost: true);
            SsmHippoReconstructArgs args = new()
            {
                StructSize = (uint)sizeof(SsmHippoReconstructArgs),
                Measure = measure,
                Window = window,
                Coefficients = call.Bind(coefficients, pCoefficients, "coefficients"),
                Points = call.Bind(points, pPoints, "points"),
                F = call.Bind(f, pF, "f"),
            };
            Check(NativeMethods.HippoReconstruct(Handle, &args));
        }
    }
}
