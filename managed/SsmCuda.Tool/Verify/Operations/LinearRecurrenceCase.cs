namespace SsmCuda.Tool.Verify.Operations;

internal static class LinearRecurrenceCase
{
    public static void Run(CaseRun run)
    {
        var isComplex = run.Flag("is_complex");
        run.Context.LinearRecurrence(run.Input("a", isComplex), run.Input("b", isComplex), run.Output("h", isComplex), new()
        {
            Reverse = run.Flag("reverse"),
            InitialState = run.Input("initial_state", isComplex),
            LastState = run.Output("last_state", isComplex),
        });
    }
}
