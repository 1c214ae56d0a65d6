namespace SsmCuda.Tool.Verify.Operations;

internal static class DiscretizeDenseCase
{
    public static void Run(CaseRun run)
    {
        run.UseHostMemory();
        run.Context.DiscretizeDense(run.Discretization(), run.Input("a"), run.Input("b"), run.Input("dt"), run.Output("a_bar"),
            run.Output("b_bar"));
    }
}
