namespace SsmCuda.Tests;

/// <summary>Mamba-3's recurrence as its definition says, in doubles, one step after another. Arrays are compact; a is (B,L,H), d
/// is (H) and all heads read the same angles.</summary>
internal sealed record Mamba3Reference(int Batch, int Length, int Heads, int Channels, int Groups, int States, int Angles)
{
    public required double[] X { get; init; }
    public required double[] Dt { get; init; }
    public required double[] A { get; init; }
    public required double[] B { get; init; }
    public required double[] C { get; init; }
    public required double[] Trap { get; init; }
    public double[]? AngleRates { get; init; }
    public double[]? BBias { get; init; }
    public double[]? CBias { get; init; }
    public double[]? D { get; init; }
    public double[]? Z { get; init; }
    public double[]? DtBias { get; init; }
    public double[]? InitialState { get; init; }
    public double[]? InitialAngle { get; init; }
    public double[]? InitialB { get; init; }
    public double[]? InitialX { get; init; }
    public long[]? CuSeqlens { get; init; }
    public bool DtSoftplus { get; init; }

    public List<Reference.Row> Rows => Reference.Rows(Batch, Length, CuSeqlens);

    /// <summary>theta is not wrapped.</summary>
    public (double[] Y, double[] LastState, double[] LastAngle, double[] LastB, double[] LastX) Run()
    {
        var y = new double[X.Length];
        var size = Channels * States;
        var heads = Rows.Count * Heads;
        var (last, lastAngle) = (new double[heads * size], new double[heads * Angles]);
        var (lastB, lastX) = (new double[heads * States], new double[heads * Channels]);
        for (var r = 0; r < Rows.Count; r++)
        {
            var row = Rows[r];
            for (var head = 0; head < Heads; head++)
            {
                var own = (r * Heads) + head;
                var (h, theta) = (Initial(InitialState, own, size), Initial(InitialAngle, own, Angles));
                var (k, x) = (Initial(InitialB, own, States), Initial(InitialX, own, Channels));
                for (var t = row.First; t < row.Last; t++)
                {
                    var step = (row.Batch * Length) + t;
                    var s = Dt[(step * Heads) + head] + (DtBias?[head] ?? 0);
                    if (DtSoftplus)
                        s = Math.Max(s, 0) + Math.Log(1 + Math.Exp(-Math.Abs(s)));
                    var lambda = 1 / (1 + Math.Exp(-Trap[(step * Heads) + head]));
                    var decay = Math.Exp(s * A[(step * Heads) + head]);
                    for (var i = 0; i < Angles; i++)
                        theta[i] += Math.PI * Math.Tanh(AngleRates![(step * Angles) + i]) * s;
                    var (nextK, q) = (Turned(B, BBias, step, head, theta), Turned(C, CBias, step, head, theta));
                    for (var p = 0; p < Channels; p++)
                    {
                        var at = (((step * Heads) + head) * Channels) + p;
                        var sum = (D?[head] ?? 0) * X[at];
                        for (var n = 0; n < States; n++)
                        {
                            ref var state = ref h[(p * States) + n];
                            state = (decay * (state + ((1 - lambda) * s * x[p] * k[n]))) + (lambda * s * X[at] * nextK[n]);
                            sum += state * q[n];
                        }
                        x[p] = X[at];
                        y[at] = Z is null ? sum : sum * Z[at] / (1 + Math.Exp(-Z[at]));
                    }
                    k = nextK;
                }
                h.CopyTo(last, own * size);
                theta.CopyTo(lastAngle, own * Angles);
                k.CopyTo(lastB, own * States);
                x.CopyTo(lastX, own * Channels);
            }
        }
        return (y, last, lastAngle, lastB, lastX);
    }

    /// <summary>An angle less whole turns, from -pi to pi.</summary>
    public static double Wrapped(double angle) => Math.IEEERemainder(angle, 2 * Math.PI);

    private static double[] Initial(double[]? given, int own, int width) =>
        given is null ? new double[width] : given[(own * width)..((own + 1) * width)];

    private double[] Turned(double[] values, double[]? bias, int step, int head, double[] theta)
    {
        var group = ((step * Groups) + (head / (Heads / Groups))) * States;
        var result = new double[States];
        for (var n = 0; n < States; n++)
            result[n] = values[group + n] + (bias?[(head * States) + n] ?? 0);
        for (var i = 0; i < Angles; i++)
        {
            var (u, v, (sine, cosine)) = (result[2 * i], result[(2 * i) + 1], Math.SinCos(theta[i]));
            (result[2 * i], result[(2 * i) + 1]) = ((u * cosine) - (v * sine), (u * sine) + (v * cosine));
        }
        return result;
    }
}
