using System.Xml.Linq;
using NUnit.Framework;
using SsmCuda.Tool.Pictures;

namespace SsmCuda.Tool.Tests;

/// <summary>The numbers in the pictures against formulas, on each device that is here; and the drawing itself.</summary>
public sealed class PictureTests
{
    private static IEnumerable<SsmDeviceType> Devices =>
        new[] { SsmDeviceType.Cpu, SsmDeviceType.Emulated }.Where(type => SsmDevice.Enumerate(type).Count > 0);

    [Test]
    public void TheBasesAreTheirFormulas()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        double[] x = [0, 0.3, 1];
        Assert.Multiple(() =>
        {
            AssertNear(Basis("legs", 0), [1, 1, 1]);
            AssertNear(Basis("legs", 1), x.Select(at => Math.Sqrt(3) * (2 * at - 1)));
            AssertNear(Basis("legt", 2), x.Select(at => Math.Sqrt(5) * Legendre(2, 2 * at - 1)));
            AssertNear(Basis("lmu", 3), x.Select(at => Legendre(3, 1 - 2 * at)));
            AssertNear(Basis("lagt", 1), x.Select(at => Math.Exp(-8 * (1 - at)) * (1 - 16 * (1 - at))));
            AssertNear(Basis("fout", 2), x.Select(at => Math.Sqrt(2) * Math.Cos(2 * Math.PI * (1 - at))));
        });

        double[] Basis(string name, int n) => HippoBases.Compute(context, Measure.Named(name).Single(), x)[n];
    }

    [Test]
    public void TheCoefficientsRemember([ValueSource(nameof(Devices))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        // The signal's own root mean square is 0.52: remembering nothing at all would be wrong by that.
        var largest = new Dictionary<string, double>
        {
            ["legs"] = 0.01,
            ["legt"] = 0.02,
            ["lmu"] = 0.02,
            ["fout"] = 0.1,
            ["lagt"] = 0.15,
        };
        foreach (var measure in Measure.All)
        {
            var recollections = HippoMemory.Compute(context, measure);
            Assert.That(recollections.Select(recollection => recollection.Now), Is.EqualTo(HippoMemory.Moments.ToArray()));
            foreach (var recollection in recollections)
            {
                Assert.That(recollection.Error, Is.InRange(1e-6, largest[measure.Name]), measure.Name);
                Assert.That(recollection.Times[^1], Is.EqualTo(recollection.Now));
                Assert.That(recollection.From, Is.EqualTo(measure.Window > 0 ? recollection.Now - 3 : 0).Within(1e-12));
            }
            // The newest point: what is best known. Fourier functions take it for the window's oldest one as well.
            if (measure.Name != "fout")
            {
                Assert.That(recollections[^1].Values[^1], Is.EqualTo(HippoMemory.Signal(10)).Within(0.1), measure.Name);
            }
        }
    }

    [Test]
    public void TheKernelsAreTheirFormulas([ValueSource(nameof(Devices))] SsmDeviceType device)
    {
        const double dt = InitialKernels.Dt;
        using var context = SsmContext.Create(device);
        var legs = InitialKernels.Compute(context, null);
        var real = InitialKernels.Compute(context, SsmDiagonalInit.Real);
        var linear = InitialKernels.Compute(context, SsmDiagonalInit.Lin);
        Assert.Multiple(() =>
        {
            for (var n = 0; n < InitialKernels.Count; n++)
            {
                foreach (var step in (int[])[0, 1, 100, InitialKernels.Length - 1])
                {
                    // The bilinear rule gives the middle of a step; near 0 that is off by its curvature.
                    var middle = (step + 0.5) * dt;
                    var basis = Math.Sqrt(2 * n + 1) * Math.Exp(-middle) * Legendre(n, 2 * Math.Exp(-middle) - 1);
                    Assert.That(legs[n][step], Is.EqualTo(basis).Within(2e-3), $"legs {n}, step {step}");
                    // Zero-order hold gives the mean over a step, of conjugate pairs: twice the real part.
                    var decay = 2 * (Math.Exp(-(n + 1) * step * dt) - Math.Exp(-(n + 1) * (step + 1) * dt)) / ((n + 1) * dt);
                    Assert.That(real[n][step], Is.EqualTo(decay).Within(1e-9), $"real {n}, step {step}");
                    var wave = 2 * Math.Exp(-middle / 2) * Math.Cos(Math.PI * n * middle);
                    Assert.That(linear[n][step], Is.EqualTo(wave).Within(2e-3), $"lin {n}, step {step}");
                }
            }
        });
    }

    [Test]
    public void TheSpringMovesAsTheStepsSay([ValueSource(nameof(Devices))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var motion = SpringMotion.Compute(context);
        // (I - dt/2 A) x = (I + dt/2 A) x_before + dt B u, its two rows solved by hand.
        const double half = SpringMotion.Dt / 2;
        var (position, velocity) = (0.0, 0.0);
        var expected = new List<double>();
        foreach (var force in motion.Force)
        {
            var first = position + half * velocity;
            var second = velocity - half * (40 * position + 5 * velocity) + 2 * half * force;
            velocity = (second - 40 * half * first) / (1 + 5 * half + 40 * half * half);
            position = first + half * velocity;
            expected.Add(position);
        }
        Assert.Multiple(() =>
        {
            AssertNear(motion.Position, expected, 1e-14);
            Assert.That(motion.Force.Count(force => force > 0), Is.EqualTo(42));
            Assert.That(motion.ABar[0] + motion.ABar[1], Is.EqualTo((1 + half * 5 - 40 * half * half + 2 * half)
                / (1 + half * 5 + 40 * half * half)).Within(1e-14));
        });
    }

    [Test]
    public void TheSpringIsWholeWithoutAnimationAndLoopsWithIt()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var motion = SpringMotion.Compute(context);
        var picture = SpringPicture.Draw(motion);
        var animations = picture.Descendants().Where(IsAnimation).ToArray();
        Assert.Multiple(() =>
        {
            Assert.That(animations, Has.Length.EqualTo(9));
            Assert.That(animations.Select(Frames).Distinct().Count(), Is.EqualTo(1), "all of one length");
            Assert.That(animations.Select(element => (string?)element.Attribute("dur")).Distinct().Count(), Is.EqualTo(1));
            Assert.That(animations.Select(element => (string?)element.Attribute("repeatCount")),
                Has.All.EqualTo("indefinite"));
            foreach (var animation in animations)
            {
                // What stands there without animation is the last frame.
                var attribute = (string)animation.Attribute("attributeName")!;
                var standing = (string)animation.Parent!.Attribute(attribute)!;
                Assert.That(standing, Does.Contain(((string)animation.Attribute("values")!).Split(';')[^1]));
            }
            var curves = picture.Descendants().Where(element => element.Name.LocalName == "polyline").ToArray();
            Assert.That(curves.Select(curve => ((string)curve.Attribute("points")!).Split(' ').Length),
                Has.All.EqualTo(SpringMotion.Steps));
        });

        static bool IsAnimation(XElement element) => element.Name.LocalName.StartsWith("animate", StringComparison.Ordinal);

        static int Frames(XElement animation) => ((string)animation.Attribute("values")!).Split(';').Length;
    }

    [TestCase(0, 1, 5, "0.0 0.2 0.4 0.6 0.8 1.0")]
    [TestCase(-1.2, 1.2, 3, "\u22121 0 1")]
    [TestCase(0, 10.3, 5, "0 5 10")]
    [TestCase(-0.004, 0.017, 5, "0.000 0.005 0.010 0.015")]
    [TestCase(-30000, 40000, 4, "\u221220000 0 20000 40000")]
    public void MarksAreRoundNumbers(double low, double high, int most, string expected) =>
        Assert.That(new Axis(low, high, MostMarks: most).Marks().Select(mark => mark.Text), Is.EqualTo(expected.Split(' ')));

    [TestCase(1.25, "1.2")]
    [TestCase(-0.04, "0")]
    [TestCase(-3.0, "-3")]
    [TestCase(1234.56, "1234.6")]
    public void NumbersAreShort(double value, string expected) => Assert.That(Svg.Number(value), Is.EqualTo(expected));

    [Test]
    public void WhatIsNotFiniteIsNotDrawn() => Assert.Multiple(() =>
    {
        Assert.That(() => Svg.Number(double.NaN), Throws.TypeOf<InvalidDataException>());
        Assert.That(() => Axis.Around([1, double.NaN]), Throws.TypeOf<InvalidDataException>());
        Assert.That(() => Axis.Around([double.PositiveInfinity]), Throws.TypeOf<InvalidDataException>());
    });

    private static double Legendre(int n, double x) => n switch
    {
        0 => 1,
        1 => x,
        _ => ((2 * n - 1) * x * Legendre(n - 1, x) - (n - 1) * Legendre(n - 2, x)) / n,
    };

    private static void AssertNear(double[] values, IEnumerable<double> expected, double tolerance = 1e-12)
    {
        var differences = values.Zip(expected, (value, right) => Math.Abs(value - right)).ToArray();
        Assert.That(differences, Has.Length.EqualTo(expected.Count()));
        Assert.That(differences, Has.All.LessThan(tolerance));
    }
}
