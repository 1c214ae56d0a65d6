namespace SsmCuda.Tool.Pictures;

/// <summary>A HiPPO measure as the pictures show it.</summary>
/// <param name="Kind">Which.</param>
/// <param name="Name">As `--measure` takes it.</param>
/// <param name="Basis">Whose functions it has.</param>
/// <param name="Formula">Its functions, of x from 0, the oldest, to 1, now, or of s, the time before now.</param>
/// <param name="Memory">What it covers, in words.</param>
/// <param name="Window">How far it sees, in its own time; 0 where that is all of the past.</param>
/// <param name="Rate">Its own time in a second of the signal; 0 where its time is that of the signal.</param>
internal sealed record Measure(SsmHippoMeasure Kind, string Name, string Basis, string Formula, string Memory, double Window,
    double Rate)
{
    // Windows of three seconds. Laguerre functions to the 64th follow the signal for about as long at this rate.
    private const double Seconds = 3;

    public static IReadOnlyList<Measure> All { get; } =
    [
        new(SsmHippoMeasure.Legs, "legs", "Legendre", "\u221a(2n+1) P_n(2x \u2212 1)", "all of the past", 0, 0),
        new(SsmHippoMeasure.Legt, "legt", "Legendre", "\u221a(2n+1) P_n(2x \u2212 1)", "a window", 1, 1 / Seconds),
        new(SsmHippoMeasure.Lagt, "lagt", "Laguerre", "exp(\u2212s/2) L_n(s)", "a fading past", 0, 5),
        new(SsmHippoMeasure.Fout, "fout", "Fourier", "1, 0, \u221a2 cos \u03c0ks, \u221a2 sin \u03c0ks", "a window", 2,
            2 / Seconds),
        new(SsmHippoMeasure.Lmu, "lmu", "Legendre", "P_n(1 \u2212 2x)", "a window", 1, 1 / Seconds),
    ];

    /// <summary>The measures that `--measure` asks for.</summary>
    public static IReadOnlyList<Measure> Named(string name) =>
        name == "all" ? All : [.. All.Where(measure => measure.Name == name)];
}
