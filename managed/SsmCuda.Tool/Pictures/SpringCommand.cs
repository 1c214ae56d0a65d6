using System.CommandLine;

namespace SsmCuda.Tool.Pictures;

/// <summary>`ssm spring`: the mass on a spring, simulated as a state space and drawn as it moves.</summary>
internal static class SpringCommand
{
    public static Command Create()
    {
        var output = PictureFolder.CreateOption();
        var device = DeviceOption.Create("cpu", "cuda", "emulated");
        const string purpose = "Draws a mass on a spring, simulated as a state space, as an animated picture";
        var command = new Command("spring", purpose) { output, device };
        command.SetAction(result => Run(result.GetRequiredValue(output), result.GetValue(device)));
        return command;
    }

    private static int Run(string output, string? deviceName)
    {
        try
        {
            var folder = PictureFolder.Open(output);
            using var context = DeviceOption.CreateContext(deviceName);
            var motion = SpringMotion.Compute(context);
            folder.Write("spring.svg", "a pushed mass on a spring, animated", SpringPicture.Draw(motion));
            folder.Summarise();
            Screen.Line($"{SpringMotion.Steps} steps on {DeviceOption.NameOf(context)}; furthest "
                + $"{Screen.Number(100 * motion.Position.Max(), "0.00")} cm, at the end "
                + $"{Screen.Number(100 * motion.Position[^1], "0.00")} cm");
            return ExitCode.Success;
        }
        catch (Exception exception) when (ExitCode.IsExpected(exception))
        {
            Screen.Error(exception.Message);
            return ExitCode.CannotRun;
        }
    }
}
