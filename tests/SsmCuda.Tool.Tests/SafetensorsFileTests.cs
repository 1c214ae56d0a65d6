using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using SsmCuda.Tool.Verify;

namespace SsmCuda.Tool.Tests;

/// <summary>The reader takes files from anywhere, so each way a file can lie about itself is a clear error.</summary>
public sealed class SafetensorsFileTests
{
    private static byte[] Good() => new SafetensorsBuilder()
        .Metadata("op", "none")
        .Add("in.x", [1, 2], 1.5f, -2f)
        .Add("out.y", [2], 3.0, 4.0)
        .Build();

    [Test]
    public void ReadsTensorsAndMetadata()
    {
        var file = SafetensorsFile.Parse(Good());
        Assert.Multiple(() =>
        {
            Assert.That(file.Metadata["op"], Is.EqualTo("none"));
            Assert.That(file.Tensors, Has.Count.EqualTo(2));
            Assert.That(file.Tensors["in.x"].Shape, Is.EqualTo(new long[] { 1, 2 }));
            Assert.That(file.Tensors["in.x"].ToSingles(), Is.EqualTo(new[] { 1.5f, -2f }));
            Assert.That(file.Tensors["out.y"].ToDoubles(), Is.EqualTo(new[] { 3.0, 4.0 }));
        });
    }

    [Test]
    public void ScalarsAndEmptyTensorsAreTensors()
    {
        var file = SafetensorsFile.Parse(new SafetensorsBuilder()
            .Add("scalar", [], 7f)
            .Add("empty", [3, 0], Array.Empty<float>())
            .Build());
        Assert.Multiple(() =>
        {
            Assert.That(file.Tensors["scalar"].ToSingles(), Is.EqualTo(new[] { 7f }));
            Assert.That(file.Tensors["empty"].ElementCount, Is.Zero);
        });
    }

    [Test]
    public void EveryTruncationIsRefused()
    {
        var good = Good();
        for (var length = 0; length < good.Length; length++)
        {
            Refuses(good[..length], $"the first {length} of {good.Length} bytes");
        }
    }

    [Test]
    public void BytesBehindTheLastTensorAreRefused() => Refuses([.. Good(), 0], "one byte more");

    [TestCase(ulong.MaxValue)]
    [TestCase(0x8000_0000_0000_0000)]
    [TestCase(1UL << 40)]
    [TestCase(100_000_001UL)]
    public void AHeaderLongerThanTheFileIsRefused(ulong length)
    {
        var file = Good();
        BinaryPrimitives.WriteUInt64LittleEndian(file, length);
        Refuses(file, "header length");
    }

    [TestCase("[]", TestName = "not an object")]
    [TestCase("{", TestName = "not JSON")]
    [TestCase("{\"x\":1}", TestName = "an entry that is a number")]
    [TestCase("{\"x\":{}}", TestName = "an entry without fields")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", TestName = "no offsets")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", TestName = "one offset")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", TestName = "three offsets")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", TestName = "offsets shorter than the shape")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", TestName = "a negative length")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", TestName = "a fraction as length")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":\"1\",\"data_offsets\":[0,4]}}", TestName = "a text as shape")]
    [TestCase("{\"x\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", TestName = "an unknown dtype")]
    [TestCase("{\"x\":{\"dtype\":null,\"shape\":[1],\"data_offsets\":[0,4]}}", TestName = "no dtype")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", TestName = "offsets in the wrong order")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", TestName = "a negative offset")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", TestName = "offsets behind the end")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}", TestName = "an offset of 2^63 - 1")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551620]}}", TestName = "an offset beyond 2^64")]
    [TestCase("{\"x\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", TestName = "a shape whose bytes overflow")]
    [TestCase("{\"__metadata__\":{\"a\":1},\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", TestName = "metadata that is a number")]
    [TestCase("{\"__metadata__\":[],\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", TestName = "metadata that is an array")]
    public void AWrongHeaderIsRefused(string header) => Refuses(SafetensorsBuilder.Build(header, new byte[4]), header);

    [Test]
    public void NamesThatAreNotUtf8AreRefused()
    {
        var header = Encoding.UTF8.GetBytes("{\"?\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        header[2] = 0xff;
        Refuses(SafetensorsBuilder.Build(header, new byte[4]), "name of byte 255");
    }

    [TestCase(0, 4, 2, 6, TestName = "overlapping")]
    [TestCase(0, 4, 0, 4, TestName = "the same bytes twice")]
    [TestCase(0, 4, 8, 12, TestName = "a gap between")]
    [TestCase(4, 8, 8, 12, TestName = "a gap in front")]
    public void TensorsLieOneBehindTheOther(int begin0, int end0, int begin1, int end1)
    {
        var header = new System.Text.Json.Nodes.JsonObject
        {
            ["x"] = SafetensorsBuilder.Entry("F32", [1], begin0, end0),
            ["y"] = SafetensorsBuilder.Entry("F32", [1], begin1, end1),
        };
        Refuses(SafetensorsBuilder.Build(header.ToJsonString(), new byte[Math.Max(end0, end1)]), "offsets");
    }

    [Test]
    public void ANameGivenTwiceIsRefused()
    {
        const string entry = "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
        Refuses(SafetensorsBuilder.Build($"{{{entry},{entry}}}", new byte[4]), "x twice");
    }

    [Test]
    public void AnotherTypeThanAskedForIsRefused() =>
        Assert.Throws<InvalidDataException>(() => SafetensorsFile.Parse(Good()).Tensors["in.x"].ToDoubles());

    private static void Refuses(byte[] file, string what) =>
        Assert.Throws<InvalidDataException>(() => SafetensorsFile.Parse(file), what);
}
