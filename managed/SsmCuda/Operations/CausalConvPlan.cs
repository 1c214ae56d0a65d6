using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The transforms of kernels, made once for many calls of
    /// <see cref="CausalConv(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConvOptions)"/>. Their numbers
    /// are in the device's own order.</summary>
    /// <param name="k">(H,K) of float or double.</param>
    /// <param name="spectrum">Output (H,F) of the type of k; F is a power of two from 512 on, at least K, and with kReverse at
    /// least 2 K. CausalConvSpectrumLength answers one that suits a length.</param>
    /// <param name="kReverse">(H,K) of the type of k; absent by default.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConvPlan(in ReadOnlyTensorView k, in TensorView spectrum, in ReadOnlyTensorView kReverse = default) =>
        CausalConvPlan(k, spectrum, kReverse, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConvPlan(in ReadOnlyTensorView, in TensorView, in ReadOnlyTensorView)"/>
    /// <returns>Bytes.</returns>
    public long CausalConvPlanWorkspace(in ReadOnlyTensorView k, in TensorView spectrum,
        in ReadOnlyTensorView kReverse = default)
    {
        ulong bytes;
        CausalConvPlan(k, spectrum, kReverse, &bytes);
        return (long)bytes;
    }

    private void CausalConvPlan(in ReadOnlyTensorView k, in TensorView spectrum, in ReadOnlyTensorView kReverse,
        ulong* workspace)
    {
        fixed (byte* pk = k, pSpectrum = spectrum, pKReverse = kReverse)
        {
            using var call = new Call(this);
            SsmCausalConvPlanArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConvPlanArgs),
                K = call.Bind(k, pk, "k"),
                KReverse = call.Bind(kReverse, pKReverse, "k_reverse"),
                Spectrum = call.Bind(spectrum, pSpectrum, "spectrum"),
            };
            Check(workspace is null
                ? NativeMethods.CausalConvPlan(Handle, &args)
                : NativeMethods.CausalConvPlanWorkspace(Handle, &args, workspace));
        }
    }
}
