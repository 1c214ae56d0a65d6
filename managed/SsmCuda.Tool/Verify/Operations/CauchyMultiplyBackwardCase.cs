namespace SsmCuda.Tool.Verify.Operations;

internal static class CauchyMultiplyBackwardCase
{
    public static void Run(CaseRun run) => run.Context.CauchyMultiplyBackward(run.Input("v", true), run.Input("w", true),
        run.Input("z", true), run.Input("grad_y", true), new()
        {
            ConjugatePairs = run.Flag("conjugate_pairs"),
            GradV = run.Output("grad_v", true),
            GradW = run.Output("grad_w", true),
        });
}
