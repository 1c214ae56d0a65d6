namespace SsmCuda.Tool.Verify.Operations;

internal static class VandermondeMultiplyCase
{
    public static void Run(CaseRun run)
    {
        var conjugatePairs = run.Flag("conjugate_pairs");
        run.Context.VandermondeMultiply(run.Input("v", true), run.Input("x", true), run.Output("y", !conjugatePairs),
            new() { ConjugatePairs = conjugatePairs });
    }
}
