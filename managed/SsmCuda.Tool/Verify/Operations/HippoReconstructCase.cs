namespace SsmCuda.Tool.Verify.Operations;

internal static class HippoReconstructCase
{
    public static void Run(CaseRun run)
    {
        run.UseHostMemory();
        run.Context.HippoReconstruct(run.Measure(), run.Input("coefficients"), run.Input("points"), run.Output("f"));
    }
}
