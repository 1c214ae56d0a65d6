namespace SsmCuda.Tool.Verify.Operations;

internal static class LinearRecurrenceBackwardCase
{
    public static void Run(CaseRun run)
    {
        var isComplex = run.Flag("is_complex");
        run.Context.LinearRecurrenceBackward(run.Input("a", isComplex), run.Input("grad_h", isComplex), new()
        {
            Reverse = run.Flag("reverse"),
            B = run.Input("b", isComplex),
            InitialState = run.Input("initial_state", isComplex),
            GradLastState = run.Input("grad_last_state", isComplex),
            GradA = run.Output("grad_a", isComplex),
            GradB = run.Output("grad_b", isComplex),
            GradInitialState = run.Output("grad_initial_state", isComplex),
        });
    }
}
