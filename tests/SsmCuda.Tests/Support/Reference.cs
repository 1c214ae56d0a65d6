using System.Numerics;

namespace SsmCuda.Tests;

/// <summary>The operations as their definitions say, in complex doubles, one step after another. Arrays are compact; the
/// starts of sequences are the rows' own, so that packed and separate batches are the same code.</summary>
internal static class Reference
{
    /// <summary>Where each row of states runs: which batch, and the steps [First, Last) of it.</summary>
    public readonly record struct Row(int Batch, int First, int Last);

    public static List<Row> Rows(int batch, int length, long[]? cuSeqlens)
    {
        var rows = new List<Row>();
        if (cuSeqlens is null)
        {
            for (var i = 0; i < batch; i++)
                rows.Add(new Row(i, 0, length));
        }
        else
        {
            for (var i = 0; i + 1 < cuSeqlens.Length; i++)
                rows.Add(new Row(0, (int)cuSeqlens[i], (int)cuSeqlens[i + 1]));
        }
        return rows;
    }

    private static IEnumerable<int> Steps(Row row, bool reverse)
    {
        for (var i = 0; i < row.Last - row.First; i++)
            yield return reverse ? row.Last - 1 - i : row.First + i;
    }

    public static (Complex[] Y, Complex[] LastState) AssociativeScan(SsmCombine combine, Complex[] x, List<Row> rows, int channels,
        int length, bool reverse, bool exclusive, Complex[]? initialState)
    {
        var y = new Complex[x.Length];
        var last = new Complex[rows.Count * channels];
        for (var r = 0; r < rows.Count; r++)
        {
            for (var c = 0; c < channels; c++)
            {
                var state = initialState?[(r * channels) + c] ?? combine switch
                {
                    SsmCombine.Add => 0,
                    SsmCombine.Multiply => 1,
                    SsmCombine.Maximum => double.NegativeInfinity,
                    _ => double.PositiveInfinity,
                };
                foreach (var t in Steps(rows[r], reverse))
                {
                    var at = (((rows[r].Batch * channels) + c) * length) + t;
                    var before = state;
                    state = combine switch
                    {
                        SsmCombine.Add => state + x[at],
                        SsmCombine.Multiply => state * x[at],
                        SsmCombine.Maximum => Math.Max(state.Real, x[at].Real),
                        _ => Math.Min(state.Real, x[at].Real),
                    };
                    y[at] = exclusive ? before : state;
                }
                last[(r * channels) + c] = state;
            }
        }
        return (y, last);
    }

    public static (Complex[] H, Complex[] LastState) LinearRecurrence(Complex[] a, Complex[] b, List<Row> rows, int channels,
        int length, bool reverse, Complex[]? initialState)
    {
        var h = new Complex[a.Length];
        var last = new Complex[rows.Count * channels];
        for (var r = 0; r < rows.Count; r++)
        {
            for (var c = 0; c < channels; c++)
            {
                var state = initialState?[(r * channels) + c] ?? 0;
                foreach (var t in Steps(rows[r], reverse))
                {
                    var at = (((rows[r].Batch * channels) + c) * length) + t;
                    state = (a[at] * state) + b[at];
                    h[at] = state;
                }
                last[(r * channels) + c] = state;
            }
        }
        return (h, last);
    }

    public static (Complex[] GradA, Complex[] GradB, Complex[] GradInitialState) LinearRecurrenceBackward(Complex[] a, Complex[] b,
        Complex[] gradH, List<Row> rows, int channels, int length, bool reverse, Complex[]? initialState, Complex[]? gradLastState)
    {
        var (h, _) = LinearRecurrence(a, b, rows, channels, length, reverse, initialState);
        var gradA = new Complex[a.Length];
        var gradB = new Complex[a.Length];
        var gradInitial = new Complex[rows.Count * channels];
        for (var r = 0; r < rows.Count; r++)
        {
            for (var c = 0; c < channels; c++)
            {
                var state = (r * channels) + c;
                var gradient = gradLastState?[state] ?? 0;
                var steps = Steps(rows[r], reverse).ToArray();
                for (var i = steps.Length - 1; i >= 0; i--)
                {
                    var at = (((rows[r].Batch * channels) + c) * length) + steps[i];
                    gradient += gradH[at];
                    var before = i > 0
                        ? h[(((rows[r].Batch * channels) + c) * length) + steps[i - 1]]
                        : initialState?[state] ?? 0;
                    gradB[at] = gradient;
                    gradA[at] = gradient * Complex.Conjugate(before);
                    gradient *= Complex.Conjugate(a[at]);
                }
                gradInitial[state] = gradient;
            }
        }
        return (gradA, gradB, gradInitial);
    }

    /// <summary>What a selective scan takes; b and c are (B,G,N,L), or (D,N) where they are constant.</summary>
    public sealed record SelectiveScanInput(Complex[] U, Complex[] Dt, Complex[] A, Complex[] B, Complex[] C)
    {
        public Complex[]? D { get; init; }
        public Complex[]? Z { get; init; }
        public Complex[]? DtBias { get; init; }
        public Complex[]? InitialState { get; init; }
        public bool DtSoftplus { get; init; }
        public bool IsConstant { get; init; }
        public bool IsComplex { get; init; }
    }

    /// <summary>What the loss depends on each input by, in the form of the input.</summary>
    public sealed record SelectiveScanGradients(Complex[] U, Complex[] Dt, Complex[] A, Complex[] B, Complex[] C, Complex[] D,
        Complex[] Z, Complex[] DtBias, Complex[] InitialState);

    public static SelectiveScanGradients SelectiveScanBackward(SelectiveScanInput input, Complex[] gradY, Complex[]? gradLastState,
        List<Row> rows, int channels, int groups, int states, int length)
    {
        var (u, count) = (input.U, input.U.Length);
        var result = new SelectiveScanGradients(new Complex[count], new Complex[count], new Complex[input.A.Length],
            new Complex[input.B.Length], new Complex[input.C.Length], new Complex[channels], new Complex[count],
            new Complex[channels], new Complex[rows.Count * channels * states]);
        for (var r = 0; r < rows.Count; r++)
        {
            for (var d = 0; d < channels; d++)
            {
                var row = ((r * channels) + d) * states;
                var (batch, first, steps) = (rows[r].Batch, rows[r].First, rows[r].Last - rows[r].First);
                var skip = input.D?[d].Real ?? 0;
                var h = new Complex[steps + 1, states];
                for (var n = 0; n < states; n++)
                    h[0, n] = input.InitialState?[row + n] ?? 0;
                var s = new double[steps];
                var slope = new double[steps];
                var e = new Complex[steps, states];
                var y = new double[steps];
                for (var i = 0; i < steps; i++)
                {
                    var at = At(batch, d, first + i);
                    s[i] = input.Dt[at].Real + (input.DtBias?[d].Real ?? 0);
                    slope[i] = input.DtSoftplus ? 1 / (1 + Math.Exp(-s[i])) : 1;
                    if (input.DtSoftplus)
                        s[i] = s[i] > 0 ? s[i] + Math.Log(1 + Math.Exp(-s[i])) : Math.Log(1 + Math.Exp(s[i]));
                    y[i] = skip * u[at].Real;
                    for (var n = 0; n < states; n++)
                    {
                        var step = Step(batch, d, n, first + i);
                        e[i, n] = Complex.Exp(s[i] * input.A[(d * states) + n]);
                        h[i + 1, n] = (e[i, n] * h[i, n]) + (s[i] * input.B[step] * u[at]);
                        y[i] += (input.IsComplex ? 2 : 1) * (h[i + 1, n] * input.C[step]).Real;
                    }
                }
                var g = new Complex[states];
                for (var n = 0; n < states; n++)
                    g[n] = gradLastState?[row + n] ?? 0;
                for (var i = steps - 1; i >= 0; i--)
                {
                    var at = At(batch, d, first + i);
                    var gy = gradY[at].Real;
                    if (input.Z is not null)
                    {
                        var z = input.Z[at].Real;
                        var sigmoid = 1 / (1 + Math.Exp(-z));
                        result.Z[at] = gy * y[i] * sigmoid * (1 + (z * (1 - sigmoid)));
                        gy *= z * sigmoid;
                    }
                    var (ofInput, ofRate) = (0.0, 0.0);
                    for (var n = 0; n < states; n++)
                    {
                        var (own, step) = ((d * states) + n, Step(batch, d, n, first + i));
                        var twice = input.IsComplex ? 2 * gy : gy;
                        g[n] += twice * Complex.Conjugate(input.C[step]);
                        result.C[step] += twice * Complex.Conjugate(h[i + 1, n]);
                        result.B[step] += s[i] * u[at].Real * g[n];
                        ofInput += (g[n] * Complex.Conjugate(input.B[step])).Real;
                        var w = g[n] * Complex.Conjugate(e[i, n] * h[i, n]);
                        result.A[own] += s[i] * w;
                        ofRate += (w * Complex.Conjugate(input.A[own])).Real;
                        g[n] *= Complex.Conjugate(e[i, n]);
                    }
                    result.U[at] = (s[i] * ofInput) + (gy * skip);
                    result.Dt[at] = slope[i] * ((u[at].Real * ofInput) + ofRate);
                    result.D[d] += gy * u[at];
                    result.DtBias[d] += result.Dt[at];
                }
                g.CopyTo(result.InitialState, row);
            }
        }
        return result;

        int At(int batch, int channel, int t) => (((batch * channels) + channel) * length) + t;
        int Step(int batch, int channel, int n, int t) => input.IsConstant
            ? (channel * states) + n
            : (((((batch * groups) + (channel / (channels / groups))) * states) + n) * length) + t;
    }

    public static (Complex[] Y, Complex[] LastState) SelectiveScan(SelectiveScanInput input, List<Row> rows, int channels, int groups,
        int states, int length)
    {
        var y = new Complex[input.U.Length];
        var last = new Complex[rows.Count * channels * states];
        for (var r = 0; r < rows.Count; r++)
        {
            for (var d = 0; d < channels; d++)
            {
                var h = new Complex[states];
                var row = ((r * channels) + d) * states;
                if (input.InitialState is not null)
                    Array.Copy(input.InitialState, row, h, 0, states);
                for (var t = rows[r].First; t < rows[r].Last; t++)
                {
                    var at = (((rows[r].Batch * channels) + d) * length) + t;
                    var s = input.Dt[at].Real + (input.DtBias?[d].Real ?? 0);
                    if (input.DtSoftplus)
                        s = s > 0 ? s + Math.Log(1 + Math.Exp(-s)) : Math.Log(1 + Math.Exp(s));
                    Complex sum = 0;
                    for (var n = 0; n < states; n++)
                    {
                        var own = (d * states) + n;
                        var step = input.IsConstant
                            ? own
                            : (((((rows[r].Batch * groups) + (d / (channels / groups))) * states) + n) * length) + t;
                        h[n] = (Complex.Exp(s * input.A[own]) * h[n]) + (s * input.B[step] * input.U[at]);
                        sum += h[n] * input.C[step];
                    }
                    var value = (input.IsComplex ? 2 * sum.Real : sum.Real) + ((input.D?[d].Real ?? 0) * input.U[at].Real);
                    if (input.Z is not null)
                        value *= input.Z[at].Real / (1 + Math.Exp(-input.Z[at].Real));
                    y[at] = value;
                }
                Array.Copy(h, 0, last, row, states);
            }
        }
        return (y, last);
    }
}
