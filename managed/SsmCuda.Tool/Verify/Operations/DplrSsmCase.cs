namespace SsmCuda.Tool.Verify.Operations;

internal static class DplrSsmCase
{
    public static void Run(CaseRun run) => run.Context.DplrSsm(run.Input("eigenvalues", true), run.Input("p", true),
        run.Input("b", true), run.Input("c", true), run.Input("dt"), run.Input("u"), run.Output("y"), new()
        {
            ConjugatePairs = run.Flag("conjugate_pairs"),
            D = run.Input("d"),
            InitialState = run.Input("initial_state", true),
            LastState = run.Output("last_state", true),
        });
}
