using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a long causal convolution may be told beyond its required tensors. Default values are absent.</summary>
public ref struct CausalConvOptions
{
    /// <summary>(H,K) of the state type of u (float for Half and BFloat16, otherwise the type of u): the taps that meet later
    /// steps, the next one first.</summary>
    public ReadOnlyTensorView KReverse;

    /// <summary>(H) of the state type of u: the skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,H,L) of the type of u: what u is multiplied by first; one if absent.</summary>
    public ReadOnlyTensorView PreGate;

    /// <summary>(B,H,L) of the type of u: what the sum is multiplied by; one if absent.</summary>
    public ReadOnlyTensorView PostGate;

    /// <summary>(R,H,K-1) of the state type of u: pre_gate u of the K-1 steps before u, oldest first; zero if absent. R is the
    /// number of packed sequences, otherwise B. Not beside KReverse.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(H,F) of the state type of u: what CausalConvPlan made of the same kernels on this device.</summary>
    public ReadOnlyTensorView Spectrum;

    /// <summary>Output (R,H,K-1) of the state type of u: pre_gate u of the last K-1 steps, those of the initial state among them
    /// where the sequence is shorter. Not beside KReverse.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>A long convolution along time of each head by itself, as S4 (Gu, Goel and Re 2021, arXiv 2111.00396), H3 and
    /// Hyena (Poli et al. 2023, arXiv 2302.10866) have it: with x = pre_gate u,
    /// y_t = post_gate_t (sum_j k_j x_{t-j} + sum_j k_reverse_j x_{t+1+j} + d x_t). By fast transforms where they are faster. A
    /// stream is convolved block by block: each call takes the last state of the one before as its initial state.</summary>
    /// <param name="u">(B,H,L) of float, double, Half or BFloat16.</param>
    /// <param name="k">(H,K) of the state type of u (float for Half and BFloat16, otherwise the type of u); K may be more than
    /// L.</param>
    /// <param name="y">Output (B,H,L) of the type of u.</param>
    /// <param name="options">The optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConv(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in TensorView y,
        in CausalConvOptions options = default) => CausalConv(u, k, y, options, null, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConv(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConvOptions)"/>
    /// <returns>Bytes.</returns>
    public long CausalConvWorkspace(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in TensorView y,
        in CausalConvOptions options = default)
    {
        ulong bytes;
        CausalConv(u, k, y, options, &bytes, null);
        return (long)bytes;
    }

    /// <summary>An F that suits calls like this one: how many numbers a head's spectrum has. What the tensors hold does not
    /// matter.</summary>
    /// <param name="u">(B,H,L), as in the call.</param>
    /// <param name="k">(H,K), as in the call.</param>
    /// <param name="options">The optional tensors of the call.</param>
    /// <returns>Numbers, a power of two.</returns>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public long CausalConvSpectrumLength(in ReadOnlyTensorView u, in ReadOnlyTensorView k,
        in CausalConvOptions options = default)
    {
        long length;
        CausalConv(u, k, default, options, null, &length);
        return length;
    }

    private void CausalConv(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in TensorView y, in CausalConvOptions options,
        ulong* workspace, long* spectrumLength)
    {
        fixed (byte* pu = u, pk = k, py = y, pKReverse = options.KReverse, pd = options.D, pPreGate = options.PreGate,
               pPostGate = options.PostGate, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens,
               pSpectrum = options.Spectrum, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmCausalConvArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConvArgs),
                U = call.Bind(u, pu, "u"),
                K = call.Bind(k, pk, "k"),
                KReverse = call.Bind(options.KReverse, pKReverse, "k_reverse"),
                D = call.Bind(options.D, pd, "d"),
                PreGate = call.Bind(options.PreGate, pPreGate, "pre_gate"),
                PostGate = call.Bind(options.PostGate, pPostGate, "post_gate"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                Spectrum = call.Bind(options.Spectrum, pSpectrum, "spectrum"),
                Y = call.Bind(y, py, "y"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(spectrumLength is not null ? NativeMethods.CausalConvSpectrumLength(Handle, &args, spectrumLength)
                : workspace is null ? NativeMethods.CausalConv(Handle, &args)
                : NativeMethods.CausalConvWorkspace(Handle, &args, workspace));
        }
    }
}
