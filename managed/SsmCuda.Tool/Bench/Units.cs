namespace SsmCuda.Tool.Bench;

internal static class Units
{
    public static string Seconds(double seconds) => seconds switch
    {
        < 1e-6 => Screen.Number(seconds * 1e9, "0.0") + " ns",
        < 1e-3 => Screen.Number(seconds * 1e6, "0.0") + " us",
        < 1 => Screen.Number(seconds * 1e3, "0.00") + " ms",
        _ => Screen.Number(seconds, "0.00") + " s",
    };

    /// <summary>Of bytes or operations.</summary>
    public static string Count(double count) => count switch
    {
        < 1e3 => Screen.Number(count, "0"),
        < 1e6 => Screen.Number(count / 1e3, "0.0") + " k",
        < 1e9 => Screen.Number(count / 1e6, "0.0") + " M",
        < 1e12 => Screen.Number(count / 1e9, "0.00") + " G",
        _ => Screen.Number(count / 1e12, "0.00") + " T",
    };

    public static string Percent(double? share) => share is { } value ? Screen.Number(100 * value, "0") + " %" : "n/a";
}
