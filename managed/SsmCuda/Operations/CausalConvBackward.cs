using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a long causal convolution are made from and where they go. Default values are absent; an
/// absent gradient is not computed.</summary>
public ref struct CausalConvBackwardOptions
{
    /// <summary>(H,K), as in the forward call.</summary>
    public ReadOnlyTensorView KReverse;

    /// <summary>(H), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,H,L), as in the forward call; one if absent.</summary>
    public ReadOnlyTensorView PreGate;

    /// <summary>(B,H,L), as in the forward call; one if absent.</summary>
    public ReadOnlyTensorView PostGate;

    /// <summary>(R,H,K-1), as in the forward call; zero if absent. R is the number of packed sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(R,H,K-1): the gradient of the loss by the last state; zero if absent. Not beside KReverse.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,H,L) of the type of u.</summary>
    public TensorView GradU;

    /// <summary>Output (H,K), of the type of k; zero where there is no step.</summary>
    public TensorView GradK;

    /// <summary>Output (H,K), of the type of k. Only beside KReverse.</summary>
    public TensorView GradKReverse;

    /// <summary>Output (H), of the type of k; zero where there is no step.</summary>
    public TensorView GradD;

    /// <summary>Output (B,H,L) of the type of u. Only beside PreGate.</summary>
    public TensorView GradPreGate;

    /// <summary>Output (B,H,L) of the type of u. Only beside PostGate.</summary>
    public TensorView GradPostGate;

    /// <summary>Output (R,H,K-1), of the type of the initial state. Not beside KReverse.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="CausalConv(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConvOptions)"/>.
    /// With s the sum that post_gate multiplies, computed again, and g = post_gate grad_y: grad_x_t = sum_j k_j g_{t+j} +
    /// sum_j k_reverse_j g_{t-1-j} + d g_t, grad_u = pre_gate grad_x, grad_pre_gate = u grad_x, grad_post_gate = s grad_y,
    /// grad_k_j = sum_{b,t} g_t x_{t-j}, grad_k_reverse_j = sum_{b,t} g_t x_{t+1+j}, grad_d = sum_{b,t} g_t x_t. Sums are made in
    /// a fixed order.</summary>
    /// <param name="u">(B,H,L), as in the forward call.</param>
    /// <param name="k">(H,K), as in the forward call.</param>
    /// <param name="gradY">(B,H,L) of the type of u: the gradient of the loss by y.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConvBackward(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in ReadOnlyTensorView gradY,
        in CausalConvBackwardOptions options) => CausalConvBackward(u, k, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConvBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in CausalConvBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long CausalConvBackwardWorkspace(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in ReadOnlyTensorView gradY,
        in CausalConvBackwardOptions options)
    {
        ulong bytes;
        CausalConvBackward(u, k, gradY, options, &bytes);
        return (long)bytes;
    }

    private void CausalConvBackward(in ReadOnlyTensorView u, in ReadOnlyTensorView k, in ReadOnlyTensorView gradY,
        in CausalConvBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pu = u, pk = k, pGradY = gradY, pKReverse = options.KReverse, pd = options.D, pPreGate = options.PreGate,
               pPostGate = options.PostGate, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens,
               pGradLastState = options.GradLastState, pGradU = options.GradU, pGradK = options.GradK,
               pGradKReverse = options.GradKReverse, pGradD = options.GradD, pGradPreGate = options.GradPreGate,
               pGradPostGate = options.GradPostGate, pGradInitialState = options.GradInitialState)
        {
            using var call = new Call(this);
            SsmCausalConvBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConvBackwardArgs),
                U = call.Bind(u, pu, "u"),
                K = call.Bind(k, pk, "k"),
                KReverse = call.Bind(options.KReverse, pKReverse, "k_reverse"),
                D = call.Bind(options.D, pd, "d"),
                PreGate = call.Bind(options.PreGate, pPreGate, "pre_gate"),
                PostGate = call.Bind(options.PostGate, pPostGate, "post_gate"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradU = call.Bind(options.GradU, pGradU, "grad_u"),
                GradK = call.Bind(options.GradK, pGradK, "grad_k"),
                GradKReverse = call.Bind(options.GradKReverse, pGradKReverse, "grad_k_reverse"),
                GradD = call.Bind(options.GradD, pGradD, "grad_d"),
                GradPreGate = call.Bind(options.GradPreGate, pGradPreGate, "grad_pre_gate"),
                GradPostGate = call.Bind(options.GradPostGate, pGradPostGate, "grad_post_gate"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
            };
            Check(workspace is null
                ? NativeMethods.CausalConvBackward(Handle, &args)
                : NativeMethods.CausalConvBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
