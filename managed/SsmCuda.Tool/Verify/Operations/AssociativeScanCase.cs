namespace SsmCuda.Tool.Verify.Operations;

internal static class AssociativeScanCase
{
    public static void Run(CaseRun run)
    {
        var combine = run.Word("combine") switch
        {
            "add" => SsmCombine.Add,
            "mul" => SsmCombine.Multiply,
            "max" => SsmCombine.Maximum,
            "min" => SsmCombine.Minimum,
            var other => throw new InvalidDataException($"parameter combine: add, mul, max or min expected, {other} given"),
        };
        run.Context.AssociativeScan(combine, run.Input("x"), run.Output("y"), new()
        {
            Reverse = run.Flag("reverse"),
            Exclusive = run.Flag("exclusive"),
        });
    }
}
