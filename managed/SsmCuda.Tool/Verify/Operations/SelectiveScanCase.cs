namespace SsmCuda.Tool.Verify.Operations;

internal static class SelectiveScanCase
{
    public static void Run(CaseRun run) => run.Context.SelectiveScan(run.Input("u"), run.Input("dt"), run.Input("a"),
        run.Input("b"), run.Input("c"), run.Output("y"), new()
        {
            DtSoftplus = run.Flag("dt_softplus"),
            D = run.Input("d"),
            Z = run.Input("z"),
            DtBias = run.Input("dt_bias"),
            InitialState = run.Input("initial_state"),
            LastState = run.Output("last_state"),
            SeqIdx = run.Integers("seq_idx"),
        });
}
