namespace SsmCuda.Tool.Verify.Operations;

internal static class CausalConv1dCase
{
    public static void Run(CaseRun run) => run.Context.CausalConv1d(run.Input("x"), run.Input("weight"), run.Output("y"), new()
    {
        Activation = Activation(run),
        Bias = run.Input("bias"),
        InitialState = run.Input("initial_state"),
        LastState = run.Output("last_state"),
        SeqIdx = run.Integers("seq_idx"),
    });

    /// <summary>The activation, forward and backward alike.</summary>
    public static SsmActivation Activation(CaseRun run) => run.Word("activation") switch
    {
        "none" => SsmActivation.None,
        "silu" => SsmActivation.Silu,
        var other => throw new InvalidDataException($"parameter activation: none or silu expected, {other} given"),
    };
}
