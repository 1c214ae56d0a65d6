namespace SsmCuda.Tool.Verify.Operations;

internal static class DenseSsmCase
{
    public static void Run(CaseRun run) => run.Context.DenseSsm(run.Discretization(), run.Input("a"), run.Input("b"),
        run.Input("c"), run.Input("dt"), run.Input("u"), run.Output("y"), new()
        {
            D = run.Input("d"),
            InitialState = run.Input("initial_state"),
            LastState = run.Output("last_state"),
        });
}
