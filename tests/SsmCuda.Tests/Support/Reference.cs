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
