namespace SsmCuda.Tool.Verify.Operations;

internal static class DplrKernelCase
{
    public static void Run(CaseRun run) => run.Context.DplrKernel(run.Input("eigenvalues", true), run.Input("p", true),
        run.Input("b", true), run.Input("c", true), run.Input("dt"), run.Output("k"), run.Flag("conjugate_pairs"),
        run.Flag("c_is_tilde"));
}
