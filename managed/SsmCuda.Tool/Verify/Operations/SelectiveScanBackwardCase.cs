namespace SsmCuda.Tool.Verify.Operations;

internal static class SelectiveScanBackwardCase
{
    public static void Run(CaseRun run) => run.Context.SelectiveScanBackward(run.Input("u"), run.Input("dt"), run.Input("a"),
        run.Input("b"), run.Input("c"), run.Input("grad_y"), new()
        {
            DtSoftplus = run.Flag("dt_softplus"),
            D = run.Input("d"),
            Z = run.Input("z"),
            DtBias = run.Input("dt_bias"),
            InitialState = run.Input("initial_state"),
            GradLastState = run.Input("grad_last_state"),
            GradU = run.Output("grad_u"),
            GradDt = run.Output("grad_dt"),
            GradA = run.Output("grad_a"),
            GradB = run.Output("grad_b"),
            GradC = run.Output("grad_c"),
            GradD = run.Output("grad_d"),
            GradZ = run.Output("grad_z"),
            GradDtBias = run.Output("grad_dt_bias"),
            GradInitialState = run.Output("grad_initial_state"),
            SeqIdx = run.Integers("seq_idx"),
        });
}
