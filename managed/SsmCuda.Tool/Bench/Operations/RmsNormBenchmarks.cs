using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The norm before a block, with its residual in float32, and Mamba-2's gated norm; forward and gradients. Bound
/// by memory.</summary>
internal static class RmsNormBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        foreach (var backward in (bool[])[false, true])
        {
            yield return Define<float, Float32Arithmetic>(Sizes.Of("mamba-130m", quick, 768, false, backward));
            yield return Define<float, Float32Arithmetic>(Sizes.Of("mamba-2.8b", quick, 2560, false, backward));
            yield return Define<BFloat16, BFloat16Arithmetic>(Sizes.Of("mamba-2.8b", quick, 2560, false, backward));
            yield return Define<float, Float32Arithmetic>(Sizes.Of("mamba2-2.7b", quick, 5120, true, backward));
            yield return Define<BFloat16, BFloat16Arithmetic>(Sizes.Of("mamba2-2.7b", quick, 5120, true, backward));
        }
    }

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(Sizes sizes)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float> =>
        new((sizes.Gated, sizes.Backward) switch
        {
            (false, false) => "rms_norm",
            (false, true) => "rms_norm_backward",
            (true, false) => "gated_rms_norm",
            (true, true) => "gated_rms_norm_backward",
        }, sizes.ToString(), TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, sizes));

    private sealed record Sizes(string Name, int Rows, int Width, bool Gated, bool Backward)
    {
        public static Sizes Of(string name, bool quick, int width, bool gated, bool backward) =>
            new(name, quick ? 512 : 2 * 2048, width, gated, backward);

        public long Elements => (long)Rows * Width;

        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name} {Rows}x{Width}");
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private const double Eps = 1e-5;

        private readonly SsmContext context;
        private readonly Sizes sizes;
        private readonly BenchmarkTensor<TStorage> x;
        private readonly BenchmarkTensor<TStorage> gradY;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly BenchmarkTensor<TStorage> gradZ;
        private readonly BenchmarkTensor<TStorage>? z;
        private readonly BenchmarkTensor<float>? residual;
        private readonly BenchmarkTensor<float>? residualOut;
        private readonly BenchmarkTensor<float> weight;
        private readonly BenchmarkTensor<float> gradWeight;
        private readonly HostArray<TStorage> loopResult;
        private readonly HostArray<float> loopResidual;
        private readonly HostArray<TStorage> loopGradZ;
        private readonly HostArray<float> loopGradWeight;

        public Case(BenchmarkDevice device, Sizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            nint[] shape = [sizes.Rows, sizes.Width];
            x = Random(1);
            gradY = Random(2);
            if (sizes.Gated)
            {
                z = Random(3);
            }
            else
            {
                residual = device.Input<float>(shape, Strides.Compact(shape), array => array.Fill(4, -1f, 1f));
                residualOut = device.Output<float>(shape, Strides.Compact(shape));
            }
            weight = device.Input<float>([sizes.Width], [1], array => array.Fill(5, 0.5f, 1.5f));
            y = device.Output<TStorage>(shape, Strides.Compact(shape));
            gradZ = device.Output<TStorage>(shape, Strides.Compact(shape));
            gradWeight = device.Output<float>([sizes.Width], [1]);
            loopResult = new HostArray<TStorage>(sizes.Elements);
            loopResidual = new HostArray<float>(sizes.Elements);
            loopGradZ = new HostArray<TStorage>(sizes.Elements);
            loopGradWeight = new HostArray<float>(sizes.Width);

            BenchmarkTensor<TStorage> Random(int seed) =>
                device.Input<TStorage>(shape, Strides.Compact(shape),
                    array => array.Fill(seed, (value, phase) => TArithmetic.FromUniform(2 * value - 1, phase)));
        }

        // Forward: x in, y out, z in; or the residual in and out. Backward: x or the residual and grad_y in, grad_x out, z in
        // and grad_z out; or the gradient of the residual in and out.
        public override long Bytes => sizes.Elements * (sizes.Gated
            ? (sizes.Backward ? 5 : 3) * sizeof(TStorage)
            : 2 * sizeof(TStorage) + (sizes.Backward ? 3 : 2) * sizeof(float));

        // Square and sum, scale, weight; a gate counts as eight.
        public override double Flops => (double)sizes.Elements * ((sizes.Backward ? 12 : 4) + (sizes.Gated ? 8 : 0));

        public override double Tolerance => TArithmetic.Tolerance;

        public override void Run()
        {
            switch (sizes.Gated, sizes.Backward)
            {
                case (false, false):
                    context.RmsNorm(x.Device, y.Device, new()
                    {
                        Eps = Eps,
                        Weight = weight.Device,
                        Residual = residual!.Device,
                        ResidualOut = residualOut!.Device,
                    });
                    break;
                case (false, true):
                    context.RmsNormBackward(residual!.Device, gradY.Device, new()
                    {
                        Eps = Eps,
                        Weight = weight.Device,
                        GradResidualOut = residual.Device,
                        GradX = y.Device,
                        GradResidual = residualOut!.Device,
                        GradWeight = gradWeight.Device,
                    });
                    break;
                case (true, false):
                    context.GatedRmsNorm(x.Device, y.Device, new() { Eps = Eps, Weight = weight.Device, Z = z!.Device });
                    break;
                default:
                    context.GatedRmsNormBackward(x.Device, gradY.Device, new()
                    {
                        Eps = Eps,
                        Weight = weight.Device,
                        Z = z!.Device,
                        GradX = y.Device,
                        GradZ = gradZ.Device,
                        GradWeight = gradWeight.Device,
                    });
                    break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (var i = 0; i < sizes.Width; i++)
            {
                loopGradWeight.Pointer[i] = 0;
            }
            for (long row = 0; row < sizes.Rows; row++)
            {
                var at = row * sizes.Width;
                float squares = 0, products = 0;
                for (var i = 0; i < sizes.Width; i++)
                {
                    var h = InputAt(at + i);
                    squares += h * h;
                    if (sizes.Backward)
                    {
                        products += h * TArithmetic.Load(gradY.Host.Pointer[at + i]) * weight.Host.Pointer[i];
                    }
                }
                var rstd = 1 / MathF.Sqrt(squares / sizes.Width + (float)Eps);
                var mean = rstd * products / sizes.Width;
                for (var i = 0; i < sizes.Width; i++)
                {
                    var h = InputAt(at + i);
                    if (!sizes.Backward)
                    {
                        loopResult.Pointer[at + i] = TArithmetic.Store(h * rstd * weight.Host.Pointer[i]);
                        loopResidual.Pointer[at + i] = h;
                        continue;
                    }
                    var g = TArithmetic.Load(gradY.Host.Pointer[at + i]);
                    var gradient = rstd * (g * weight.Host.Pointer[i] - h * rstd * mean);
                    loopGradWeight.Pointer[i] += g * h * rstd;
                    if (sizes.Gated)
                    {
                        var gate = TArithmetic.Load(z!.Host.Pointer[at + i]);
                        var sigmoid = 1 / (1 + MathF.Exp(-gate));
                        loopGradZ.Pointer[at + i] = TArithmetic.Store(gradient * TArithmetic.Load(x.Host.Pointer[at + i])
                            * sigmoid * (1 + gate * (1 - sigmoid)));
                        gradient *= gate * sigmoid;
                    }
                    else
                    {
                        gradient += residual!.Host.Pointer[at + i];
                        loopResidual.Pointer[at + i] = gradient;
                    }
                    loopResult.Pointer[at + i] = TArithmetic.Store(gradient);
                }
            }
        }

        // What the norm is taken of.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private float InputAt(long index)
        {
            if (!sizes.Gated)
            {
                return sizes.Backward
                    ? residual!.Host.Pointer[index]
                    : TArithmetic.Load(x.Host.Pointer[index]) + residual!.Host.Pointer[index];
            }
            var gate = TArithmetic.Load(z!.Host.Pointer[index]);
            return TArithmetic.Load(x.Host.Pointer[index]) * gate / (1 + MathF.Exp(-gate));
        }

        private double ExactInputAt(long index)
        {
            if (!sizes.Gated)
            {
                return residual!.Host.Pointer[index] + (sizes.Backward ? 0 : TArithmetic.Exact(x.Host.Pointer[index]).Real);
            }
            var gate = TArithmetic.Exact(z!.Host.Pointer[index]).Real;
            return TArithmetic.Exact(x.Host.Pointer[index]).Real * gate / (1 + Math.Exp(-gate));
        }

        // Of y or grad_x; the sums over the rows are for the tests.
        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Width))
            {
                var at = row * sizes.Width;
                double squares = 0, products = 0;
                for (var i = 0; i < sizes.Width; i++)
                {
                    var h = ExactInputAt(at + i);
                    squares += h * h;
                    products += h * TArithmetic.Exact(gradY.Host.Pointer[at + i]).Real * weight.Host.Pointer[i];
                }
                var rstd = 1 / Math.Sqrt(squares / sizes.Width + Eps);
                for (var i = 0; i < sizes.Width; i++)
                {
                    var n = ExactInputAt(at + i) * rstd;
                    var expected = n * weight.Host.Pointer[i];
                    if (sizes.Backward)
                    {
                        expected = rstd * (TArithmetic.Exact(gradY.Host.Pointer[at + i]).Real * weight.Host.Pointer[i]
                            - n * rstd * products / sizes.Width);
                        var gate = sizes.Gated ? TArithmetic.Exact(z!.Host.Pointer[at + i]).Real : 0;
                        expected = sizes.Gated
                            ? expected * gate / (1 + Math.Exp(-gate))
                            : expected + residual!.Host.Pointer[at + i];
                    }
                    meter.Add(TArithmetic.Exact(result.Pointer[at + i]).Real, expected);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            x.Dispose();
            gradY.Dispose();
            y.Dispose();
            gradZ.Dispose();
            z?.Dispose();
            residual?.Dispose();
            residualOut?.Dispose();
            weight.Dispose();
            gradWeight.Dispose();
            loopResult.Dispose();
            loopResidual.Dispose();
            loopGradZ.Dispose();
            loopGradWeight.Dispose();
        }
    }
}
