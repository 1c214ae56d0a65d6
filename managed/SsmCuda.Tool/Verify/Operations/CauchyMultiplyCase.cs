namespace SsmCuda.Tool.Verify.Operations;

internal static class CauchyMultiplyCase
{
    public static void Run(CaseRun run) => run.Context.CauchyMultiply(run.Input("v", true), run.Input("w", true),
        run.Input("z", true), run.Output("y", true), new() { ConjugatePairs = run.Flag("conjugate_pairs") });
}
