using NUnit.Framework;
using SsmCuda.Tool.Verify;

namespace SsmCuda.Tool.Tests;

/// <summary>The measure that decides whether a case passes.</summary>
public sealed class CaseErrorTests
{
    [Test]
    public void IsTheRelativeErrorInTheEuclideanNorm() =>
        Assert.That(CaseError.Of([3, 4.5], [3, 4]), Is.EqualTo(0.1).Within(1e-15));

    [Test]
    public void IsATenthOfTheLargestErrorWhereThatIsMore()
    {
        // One element of many is off: small in the Euclidean norm, large alone.
        var reference = Enumerable.Repeat(1.0, 10000).ToArray();
        var result = reference.ToArray();
        result[1234] = 3;
        Assert.That(CaseError.Of(result, reference), Is.EqualTo(0.2).Within(1e-15));
    }

    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    [TestCase(double.NegativeInfinity)]
    public void IsInfiniteForWhatIsNotFinite(double value) =>
        Assert.That(CaseError.Of([1, value], [1, 2]), Is.EqualTo(double.PositiveInfinity));

    [Test]
    public void IsInfiniteAgainstAReferenceThatIsNotFinite() =>
        Assert.That(CaseError.Of([1, 2], [1, double.NaN]), Is.EqualTo(double.PositiveInfinity));

    [Test]
    public void AReferenceOfZerosHasToBeMetExactly() => Assert.Multiple(() =>
    {
        Assert.That(CaseError.Of([0, 0], [0, 0]), Is.Zero);
        Assert.That(CaseError.Of([0, 1e-300], [0, 0]), Is.EqualTo(double.PositiveInfinity));
    });

    [Test]
    public void ATinyErrorIsNotLostInSquaring() =>
        Assert.That(CaseError.Of([1e-200], [2e-200]), Is.GreaterThan(0.04));

    [Test]
    public void LengthsHaveToAgree() => Assert.Throws<ArgumentException>(() => CaseError.Of([1], [1, 2]));
}
