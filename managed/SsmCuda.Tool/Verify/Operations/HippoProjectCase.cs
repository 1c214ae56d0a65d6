namespace SsmCuda.Tool.Verify.Operations;

internal static class HippoProjectCase
{
    public static void Run(CaseRun run) =>
        run.Context.HippoProject(run.Measure(), run.Input("f"), run.Output("coefficients"), new()
        {
            Discretization = run.Discretization(),
            Start = run.Word("start") switch
            {
                "zero" => SsmHippoStart.Zero,
                "first" => SsmHippoStart.First,
                var other => throw new InvalidDataException($"parameter start: {other} given"),
            },
        });
}
