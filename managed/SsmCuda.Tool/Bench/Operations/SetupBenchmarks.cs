using System.Numerics;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Set-up operations that a model waits for, on the host in double precision whatever the device: S4's initialisation, and
/// the matrix exponential of dense systems.</summary>
internal static class SetupBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        foreach (var rows in (int[])(quick ? [16] : [64, 256]))
        {
            yield return new("hippo_nplr", $"S4, legs of {rows} states", "complex128", device => new NplrCase(device, rows));
        }
        var (heads, states) = quick ? (1, 16) : (8, 64);
        yield return new("discretize_dense", $"LSSL {heads} heads N{states}", "float64",
            device => new ExponentialCase(device, heads, states));
    }

    // Of legs.
    private static double Element(int n, int k) =>
        n > k ? -Math.Sqrt((2 * n + 1) * (2.0 * k + 1)) : n == k ? -(n + 1) : 0;

    private sealed class NplrCase(BenchmarkDevice device, int rows) : BenchmarkCase
    {
        private readonly SsmContext context = device.Context;
        private readonly Complex[] eigenvalues = new Complex[rows / 2];
        private readonly Complex[] p = new Complex[rows / 2];
        private readonly Complex[] b = new Complex[rows / 2];
        private readonly Complex[] v = new Complex[rows * rows / 2];

        public override long Bytes => 16L * (3 * rows / 2 + rows * rows / 2);

        // Eigenvectors of a real matrix: about nine times the cube of its rows (Golub and Van Loan, section 8.3).
        public override double Flops => 9.0 * rows * rows * rows;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => 1e-11;

        public override PeerTask PeerTask => new("hippo_nplr", "complex128", 1, 1, 1) { States = rows };

        // Eigenvectors have no formula to write down as a loop.
        public override bool HasLoop => false;

        public override void Run() => context.HippoNplr(SsmHippoMeasure.Legs, TensorView.Create<Complex>(eigenvalues, rows / 2),
            TensorView.Create<Complex>(p, 1, rows / 2), TensorView.Create<Complex>(b, rows / 2),
            TensorView.Create<Complex>(v, rows, rows / 2));

        public override void RunLoop() => throw new NotSupportedException();

        // The matrix again, from both halves of its states.
        public override double MaxError()
        {
            var meter = new ErrorMeter();
            var half = rows / 2;
            var low = new double[rows];
            for (var n = 0; n < rows; n++)
            {
                for (var i = 0; i < half; i++)
                {
                    low[n] += 2 * (v[n * half + i] * p[i]).Real;
                }
            }
            for (var n = 0; n < rows; n++)
            {
                for (var k = 0; k < rows; k++)
                {
                    var sum = -low[n] * low[k];
                    for (var i = 0; i < half; i++)
                    {
                        sum += 2 * (v[n * half + i] * eigenvalues[i] * Complex.Conjugate(v[k * half + i])).Real;
                    }
                    meter.Add(sum, Element(n, k));
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
        }
    }

    private sealed class ExponentialCase : BenchmarkCase
    {
        private const double Step = 0.01;
        private const int Terms = 24;

        private readonly SsmContext context;
        private readonly int heads;
        private readonly int states;
        private readonly double[] a;
        private readonly double[] b;
        private readonly double[] dt;
        private readonly double[] result;
        private readonly double[] input;

        public ExponentialCase(BenchmarkDevice device, int heads, int states)
        {
            context = device.Context;
            (this.heads, this.states) = (heads, states);
            a = new double[heads * states * states];
            for (var i = 0; i < a.Length; i++)
            {
                a[i] = Element(i / states % states, i % states);
            }
            b = new double[heads * states];
            Array.Fill(b, 1);
            dt = new double[heads];
            Array.Fill(dt, Step);
            result = new double[a.Length];
            input = new double[b.Length];
        }

        public override long Bytes => sizeof(double) * (2L * a.Length + 2 * b.Length + heads);

        // A Pade approximant of degree 13: six products and a quotient of matrices; the squarings depend on the values.
        public override double Flops => 16.0 * heads * states * states * states;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => 1e-11;

        public override PeerTask PeerTask => new("discretize_dense", "float64", 1, heads, 1) { States = states };

        public override void Run() => context.DiscretizeDense(SsmDiscretization.Zoh,
            ReadOnlyTensorView.Create<double>(a, heads, states, states), ReadOnlyTensorView.Create<double>(b, heads, states),
            ReadOnlyTensorView.Create<double>(dt, heads), TensorView.Create<double>(result, heads, states, states),
            TensorView.Create<double>(input, heads, states));

        public override void RunLoop()
        {
            for (var head = 0; head < heads; head++)
            {
                Exponential(head);
            }
        }

        public override double MaxError()
        {
            var meter = new ErrorMeter();
            for (var head = 0; head < heads; head++)
            {
                var expected = Exponential(head);
                for (var i = 0; i < expected.Length; i++)
                {
                    meter.Add(result[head * expected.Length + i], expected[i]);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
        }

        // The series of a small part of the matrix, squared until it is that of all of it.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private double[] Exponential(int head)
        {
            const int squarings = 6;
            var count = states * states;
            var part = new double[count];
            var sum = new double[count];
            for (var i = 0; i < count; i++)
            {
                part[i] = a[head * count + i] * dt[head] / (1 << squarings);
                sum[i] = i % (states + 1) == 0 ? 1 : 0;
            }
            var term = (double[])sum.Clone();
            for (var power = 1; power <= Terms; power++)
            {
                term = Product(term, part, 1.0 / power);
                for (var i = 0; i < count; i++)
                {
                    sum[i] += term[i];
                }
            }
            for (var i = 0; i < squarings; i++)
            {
                sum = Product(sum, sum, 1);
            }
            return sum;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private double[] Product(double[] left, double[] right, double factor)
        {
            var product = new double[left.Length];
            for (var i = 0; i < states; i++)
            {
                for (var k = 0; k < states; k++)
                {
                    var own = factor * left[i * states + k];
                    for (var j = 0; j < states; j++)
                    {
                        product[i * states + j] += own * right[k * states + j];
                    }
                }
            }
            return product;
        }
    }
}
