using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a short causal convolution may be told beyond its required tensors. Default values are absent.</summary>
public ref struct CausalConv1dOptions
{
    /// <summary>What the sum goes through.</summary>
    public SsmActivation Activation;

    /// <summary>(D) of the state type of x (float for Half and BFloat16, otherwise the type of x); zero if absent.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>(R,D,W-1) of the state type of x: the steps just before x, oldest first; zero if absent. R is the number of
    /// packed sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(B,L) of int: the sequence that each step belongs to. Where it differs from the id of the step before, padding
    /// passed over, the sequence starts anew and no tap reaches back; an id may come back. The first id of a row keeps the
    /// initial state. A negative id is padding: the taps pass over it, whatever it holds, and y is 0 there. The last state holds
    /// the last steps of the last sequence, zero before them. Not beside CuSeqlens.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>Output (R,D,W-1) of the state type of x: the last W-1 steps, those of the initial state among them where the
    /// sequence is shorter.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>A short causal convolution along time of each channel by itself, as Mamba has before its scan (Gu and Dao
    /// 2023, arXiv 2312.00752, section 3.4): y_t = act(bias + sum_j weight_j x_{t-W+1+j}). Before x lie the W-1 steps of the
    /// initial state.</summary>
    /// <param name="x">(B,D,L) of float, double, Half or BFloat16.</param>
    /// <param name="weight">(D,W) of the state type of x (float for Half and BFloat16, otherwise the type of x); W is 1 to 256,
    /// and the last weight meets the step itself.</param>
    /// <param name="y">Output (B,D,L) of the type of x.</param>
    /// <param name="options">Activation and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConv1d(in ReadOnlyTensorView x, in ReadOnlyTensorView weight, in TensorView y,
        in CausalConv1dOptions options = default) => CausalConv1d(x, weight, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConv1d(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConv1dOptions)"/>
    /// <returns>Bytes.</returns>
    public long CausalConv1dWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView weight, in TensorView y,
        in CausalConv1dOptions options = default)
    {
        ulong bytes;
        CausalConv1d(x, weight, y, options, &bytes);
        return (long)bytes;
    }

    private void CausalConv1d(in ReadOnlyTensorView x, in ReadOnlyTensorView weight, in TensorView y,
        in CausalConv1dOptions options, ulong* workspace)
    {
        fixed (byte* px = x, pWeight = weight, py = y, pBias = options.Bias, pInitialState = options.InitialState,
               pCuSeqlens = options.CuSeqlens, pLastState = options.LastState,
               pSeqIdx = options.SeqIdx)
        {
            using var call = new Call(this);
            SsmCausalConv1dArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConv1dArgs),
                Activation = options.Activation,
                X = call.Bind(x, px, "x"),
                Weight = call.Bind(weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                Y = call.Bind(y, py, "y"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
                SeqIdx = call.Bind(options.SeqIdx, pSeqIdx, "seq_idx"),
            };
            Check(workspace is null
                ? NativeMethods.CausalConv1d(Handle, &args)
                : NativeMethods.CausalConv1dWorkspace(Handle, &args, workspace));
        }
    }
}
