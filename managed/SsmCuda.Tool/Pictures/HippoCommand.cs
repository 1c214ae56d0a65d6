using System.CommandLine;

namespace SsmCuda.Tool.Pictures;

/// <summary>`ssm hippo`: what HiPPO's measures remember, and what S4 starts from, as pictures.</summary>
internal static class HippoCommand
{
    public static Command Create()
    {
        var output = PictureFolder.CreateOption();
        var measure = new Option<string>("--measure")
        {
            Description = "The measure of the bases and the reconstruction",
            HelpName = string.Join('|', Names),
            DefaultValueFactory = _ => "all",
        };
        measure.AcceptOnlyFromAmong(Names);
        var device = DeviceOption.Create("cpu", "cuda", "emulated");
        const string purpose = "Draws HiPPO's bases, what they remember of a signal and the kernels that S4 starts from";
        var command = new Command("hippo", purpose) { output, measure, device };
        command.SetAction(result => Run(result.GetRequiredValue(output), result.GetRequiredValue(measure),
            result.GetValue(device)));
        return command;
    }

    private static string[] Names => [.. Measure.All.Select(measure => measure.Name), "all"];

    private static int Run(string output, string measureName, string? deviceName)
    {
        try
        {
            var folder = PictureFolder.Open(output);
            using var context = DeviceOption.CreateContext(deviceName);
            var measures = Measure.Named(measureName);
            var memories = measures.Select(measure => (measure, HippoMemory.Compute(context, measure))).ToArray();
            folder.Write("hippo-bases.svg", "the first five functions of each basis", HippoBases.Draw(context, measures));
            folder.Write("hippo-memory.svg", "a signal out of 64 coefficients", HippoMemory.Draw(memories));
            folder.Write("initial-kernels.svg", "the kernels that S4 and S4D start from", InitialKernels.Draw(context));
            Summarise(memories);
            folder.Summarise();
            Screen.Line($"computed on {DeviceOption.NameOf(context)}");
            return ExitCode.Success;
        }
        catch (Exception exception) when (ExitCode.IsExpected(exception))
        {
            Screen.Error(exception.Message);
            return ExitCode.CannotRun;
        }
    }

    private static void Summarise(IEnumerable<(Measure Measure, IReadOnlyList<Recollection> Recollections)> memories)
    {
        var table = Screen.Table(
            [("measure", false), .. HippoMemory.Moments.Select(now => ($"rms error after {now} s", true))]);
        foreach (var (measure, recollections) in memories)
        {
            table.Row(
                [measure.Name, .. recollections.Select(recollection => Screen.Number(recollection.Error, "0.0000"))]);
        }
        Screen.Console.Write(table);
    }
}
