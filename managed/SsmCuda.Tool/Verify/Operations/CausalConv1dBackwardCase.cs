namespace SsmCuda.Tool.Verify.Operations;

internal static class CausalConv1dBackwardCase
{
    public static void Run(CaseRun run) =>
        run.Context.CausalConv1dBackward(run.Input("x"), run.Input("weight"), run.Input("grad_y"), new()
        {
            Activation = CausalConv1dCase.Activation(run),
            Bias = run.Input("bias"),
            InitialState = run.Input("initial_state"),
            GradLastState = run.Input("grad_last_state"),
            GradX = run.Output("grad_x"),
            GradWeight = run.Output("grad_weight"),
            GradBias = run.Output("grad_bias"),
            GradInitialState = run.Output("grad_initial_state"),
            SeqIdx = run.Integers("seq_idx"),
        });
}
