namespace SsmCuda.Tool.Verify.Operations;

internal static class DiagonalKernelCase
{
    public static void Run(CaseRun run) => run.Context.DiagonalKernel(run.Input("a", true), run.Input("b", true),
        run.Input("c", true), run.Input("dt"), run.Output("k"),
        new() { Discretization = DiscretizeDiagonalCase.Discretization(run) });
}
