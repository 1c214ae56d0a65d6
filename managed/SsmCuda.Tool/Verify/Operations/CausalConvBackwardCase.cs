namespace SsmCuda.Tool.Verify.Operations;

internal static class CausalConvBackwardCase
{
    public static void Run(CaseRun run) =>
        run.Context.CausalConvBackward(run.Input("u"), run.Input("k"), run.Input("grad_y"), new()
        {
            KReverse = run.Input("k_reverse"),
            D = run.Input("d"),
            PreGate = run.Input("pre_gate"),
            PostGate = run.Input("post_gate"),
            GradU = run.Output("grad_u"),
            GradK = run.Output("grad_k"),
            GradKReverse = run.Output("grad_k_reverse"),
            GradD = run.Output("grad_d"),
            GradPreGate = run.Output("grad_pre_gate"),
            GradPostGate = run.Output("grad_post_gate"),
        });
}
