using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The system c' = a c + b f of a HiPPO measure (Gu et al. 2020, arXiv 2008.07669). It runs at once on
    /// host memory, whatever the device of the context.</summary>
    /// <param name="measure">The measure.</param>
    /// <param name="a">Output (N,N) of float or double.</param>
    /// <param name="b">Output (N) of the type of a; may be left out.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void HippoMatrix(SsmHippoMeasure measure, in TensorView a, in TensorView b = default)
    {
        fixed (byte* pA = a, pB = b)
        {
            using var call = new Call(this, isOnHost: true);
            SsmHippoMatrixArgs args = new()
            {
                StructSize = (uint)sizeof(SsmHippoMatrixArgs),
                Measure = measure,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
            };
            Check(NativeMethods.HippoMatrix(Handle, &args));
        }
    }
}
