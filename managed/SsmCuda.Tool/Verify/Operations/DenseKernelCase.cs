namespace SsmCuda.Tool.Verify.Operations;

internal static class DenseKernelCase
{
    public static void Run(CaseRun run) => run.Context.DenseKernel(run.Discretization(), run.Input("a"), run.Input("b"),
        run.Input("c"), run.Input("dt"), run.Output("k"));
}
