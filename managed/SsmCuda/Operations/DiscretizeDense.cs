using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>a_bar and b_bar of dense systems; zero-order hold by the matrix exponential, right for singular a. It
    /// runs at once on host memory, whatever the device of the context.</summary>
    /// <param name="discretization">Any but Dirac and Async.</param>
    /// <param name="a">(H,N,N) of float or double.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the type of a; positive.</param>
    /// <param name="aBar">Output (H,N,N) of the type of a.</param>
    /// <param name="bBar">Output (H,N) of the type of a; may be left out.</param>
    /// <param name="alpha">Of the generalized bilinear rule, 0 to 1; 0 otherwise.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void DiscretizeDense(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView dt, in TensorView aBar, in TensorView bBar = default, double alpha = 0)
    {
        fixed (byte* pA = a, pB = b, pDt = dt, pABar = aBar, pBBar = bBar)
        {
            using var call = new Call(this, isOnHost: true);
            SsmDiscretizeDenseArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiscretizeDenseArgs),
                Discretization = discretization,
                Alpha = alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                Dt = call.Bind(dt, pDt, "dt"),
                ABar = call.Bind(aBar, pABar, "a_bar"),
                BBar = call.Bind(bBar, pBBar, "b_bar"),
            };
            Check(NativeMethods.DiscretizeDense(Handle, &args));
        }
    }
}
