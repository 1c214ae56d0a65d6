namespace SsmCuda.Tool.Verify.Operations;

internal static class VandermondeMultiplyBackwardCase
{
    public static void Run(CaseRun run)
    {
        var conjugatePairs = run.Flag("conjugate_pairs");
        run.Context.VandermondeMultiplyBackward(run.Input("v", true), run.Input("x", true),
            run.Input("grad_y", !conjugatePairs), new()
            {
                ConjugatePairs = conjugatePairs,
                GradV = run.Output("grad_v", true),
                GradX = run.Output("grad_x", true),
            });
    }
}
