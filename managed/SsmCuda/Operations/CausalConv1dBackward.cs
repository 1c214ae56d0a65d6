using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a short causal convolution are made from and where they go. Default values are absent; an
/// absent gradient is not computed.</summary>
public ref struct CausalConv1dBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public SsmActivation Activation;

    /// <summary>(D), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>(R,D,W-1), as in the forward call; zero if absent. R is the number of packed sequences, otherwise B; the type is
    /// float for Half and BFloat16 tensors and the type of x for others.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(B,L) of int, as in the forward call; gradients are 0 where it is negative.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>(R,D,W-1): the gradient of the loss by the last state; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,D,L) of the type of x.</summary>
    public TensorView GradX;

    /// <summary>Output (D,W), of the type of the weights; zero where there is no step.</summary>
    public TensorView GradWeight;

    /// <summary>Output (D), of the type of the weights; zero where there is no step.</summary>
    public TensorView GradBias;

    /// <summary>Output (R,D,W-1), of the type of the initial state.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="CausalConv1d(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConv1dOptions)"/>.
    /// With z the sum before the activation, computed again, and g = grad_y act'(z): grad_x_t = sum_j weight_j g_{t+W-1-j},
    /// grad_weight_j = sum_{b,t} g_t x_{t-W+1+j}, grad_bias = sum_{b,t} g_t. Sums are made in a fixed order.</summary>
    /// <param name="x">(B,D,L), as in the forward call.</param>
    /// <param name="weight">(D,W), as in the forward call.</param>
    /// <param name="gradY">(B,D,L) of the type of x: the gradient of the loss by y.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConv1dBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView weight, in ReadOnlyTensorView gradY,
        in CausalConv1dBackwardOptions options) => CausalConv1dBackward(x, weight, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConv1dBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in CausalConv1dBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long CausalConv1dBackwardWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView weight,
        in ReadOnlyTensorView gradY, in CausalConv1dBackwardOptions options)
    {
        ulong bytes;
        CausalConv1dBackward(x, weight, gradY, options, &bytes);
        return (long)bytes;
    }

    private void CausalConv1dBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView weight, in ReadOnlyTensorView gradY,
        in CausalConv1dBackwardOptions options, ulong* workspace)
    {
        fixed (byte* px = x, pWeight = weight, pGradY = gradY, pBias = options.Bias, pInitialState = options.InitialState,
               pCuSeqlens = options.CuSeqlens, pGradLastState = options.GradLastState, pGradX = options.GradX,
               pGradWeight = options.GradWeight, pGradBias = options.GradBias, pGradInitialState = options.GradInitialState,
               pSeqIdx = options.SeqIdx)
        {
            using var call = new Call(this);
            SsmCausalConv1dBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConv1dBackwardArgs),
                Activation = options.Activation,
                X = call.Bind(x, px, "x"),
                Weight = call.Bind(weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
                GradWeight = call.Bind(options.GradWeight, pGradWeight, "grad_weight"),
                GradBias = call.Bind(options.GradBias, pGradBias, "grad_bias"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
                SeqIdx = call.Bind(options.SeqIdx, pSeqIdx, "seq_idx"),
            };
            Check(workspace is null
                ? NativeMethods.CausalConv1dBackward(Handle, &args)
                : NativeMethods.CausalConv1dBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
