namespace SsmCuda.Tool.Verify.Operations;

internal static class DiscretizeDiagonalCase
{
    public static void Run(CaseRun run) => run.Context.DiscretizeDiagonal(run.Input("a", true), run.Input("dt"), new()
    {
        Discretization = Discretization(run),
        B = run.Input("b", true),
        ABar = run.Output("a_bar", true),
        BBar = run.Output("b_bar", true),
    });

    /// <summary>The discretization that a case names.</summary>
    public static SsmDiscretization Discretization(CaseRun run) => run.Word("discretization") switch
    {
        "zoh" => SsmDiscretization.Zoh,
        "bilinear" => SsmDiscretization.Bilinear,
        "euler" => SsmDiscretization.Euler,
        "backward_euler" => SsmDiscretization.BackwardEuler,
        "dirac" => SsmDiscretization.Dirac,
        var other => throw new InvalidDataException($"parameter discretization: {other} is none that is known"),
    };
}
