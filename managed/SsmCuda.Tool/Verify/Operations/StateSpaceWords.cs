namespace SsmCuda.Tool.Verify.Operations;

/// <summary>Words of the cases of dense and HiPPO's systems.</summary>
internal static class StateSpaceWords
{
    public static SsmHippoMeasure Measure(this CaseRun run) => run.Word("measure") switch
    {
        "legs" => SsmHippoMeasure.Legs,
        "legt" => SsmHippoMeasure.Legt,
        "lagt" => SsmHippoMeasure.Lagt,
        "fout" => SsmHippoMeasure.Fout,
        "lmu" => SsmHippoMeasure.Lmu,
        var other => throw new InvalidDataException($"parameter measure: {other} given"),
    };

    public static SsmDiscretization Discretization(this CaseRun run) => run.Word("discretization") switch
    {
        "zoh" => SsmDiscretization.Zoh,
        "bilinear" => SsmDiscretization.Bilinear,
        "euler" => SsmDiscretization.Euler,
        "backward_euler" => SsmDiscretization.BackwardEuler,
        var other => throw new InvalidDataException($"parameter discretization: {other} given"),
    };
}
