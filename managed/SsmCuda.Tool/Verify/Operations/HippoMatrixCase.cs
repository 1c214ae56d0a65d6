namespace SsmCuda.Tool.Verify.Operations;

internal static class HippoMatrixCase
{
    public static void Run(CaseRun run)
    {
        run.UseHostMemory();
        run.Context.HippoMatrix(run.Measure(), run.Output("a"), run.Output("b"));
    }
}
