namespace SsmCuda.Tool.Verify.Operations;

internal static class CausalConvCase
{
    public static void Run(CaseRun run) => run.Context.CausalConv(run.Input("u"), run.Input("k"), run.Output("y"), new()
    {
        KReverse = run.Input("k_reverse"),
        D = run.Input("d"),
        PreGate = run.Input("pre_gate"),
        PostGate = run.Input("post_gate"),
    });
}
