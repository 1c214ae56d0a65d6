namespace SsmCuda.Tool.Verify.Operations;

internal static class DiagonalSsmCase
{
    public static void Run(CaseRun run) => run.Context.DiagonalSsm(run.Input("a", true), run.Input("b", true),
        run.Input("c", true), run.Input("dt"), run.Input("u"), run.Output("y"), new()
        {
            Discretization = DiscretizeDiagonalCase.Discretization(run),
            D = run.Input("d"),
            InitialState = run.Input("initial_state", true),
            LastState = run.Output("last_state", true),
        });
}
