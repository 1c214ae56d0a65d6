using System.Numerics;
using System.Numerics.Tensors;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of u, TState that of the real states, TA that of a, which may be complex.</summary>
[TestFixture(typeof(float), typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float), typeof(float))]
[TestFixture(typeof(float), typeof(float), typeof(Complex64))]
[TestFixture(typeof(double), typeof(double), typeof(Complex))]
internal sealed class SelectiveScanBackwardTests<T, TState, TA>
    where T : unmanaged
    where TState : unmanaged
    where TA : unmanaged
{
    private const int Channels = 6;
    private const int Groups = 2;
    private const int States = 4;

    // Sums of a hundred products and more.
    private const double Factor = 4;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool constant, [Values] bool packed, [Values(1, 70)] int length)
    {
        // b and c per step are complex where a is, and of u's type otherwise.
        if (Numbers.IsComplex<TA>() || constant)
            Run<TA>(device, full, constant, packed, length);
        else
            Run<T>(device, full, constant, packed, length);
    }

    private static void Run<TB>(SsmDeviceType device, bool full, bool constant, bool packed, int length)
        where TB : unmanaged
    {
        var batch = packed ? 1 : 2;
        long[]? cuSeqlens = packed ? [0, length / 2, length / 2, length] : null;
        var rows = Reference.Rows(batch, length, cuSeqlens);
        var random = new Random(length);
        var u = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var dt = Numbers.Random<T>(random, batch * Channels * length, full ? -3 : 0.01, full ? 1 : 0.3);
        var a = Array.ConvertAll(Numbers.Random<TA>(random, Channels * States, 0.2, 2), value =>
        {
            var number = Numbers.ToComplex(value);
            return Numbers.FromComplex<TA>(new Complex(-Math.Abs(number.Real), number.Imaginary));
        });
        nint[] shape = constant ? [Channels, States] : [batch, Groups, States, length];
        var count = shape.Aggregate((x, y) => x * y);
        var b = Numbers.Random<TB>(random, count, -1, 1);
        var c = Numbers.Random<TB>(random, count, -1, 1);
        var d = Numbers.Random<TState>(random, Channels, -1, 1);
        var z = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var dtBias = Numbers.Random<TState>(random, Channels, -1, 1);
        var s0 = Numbers.Random<TA>(random, rows.Count * Channels * States, -1, 1);
        var gradY = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var gradLast = Numbers.Random<TA>(random, rows.Count * Channels * States, -1, 1);
        var expected = Reference.SelectiveScanBackward(
            new(Numbers.ToComplex(u), Numbers.ToComplex(dt), Numbers.ToComplex(a), Numbers.ToComplex(b), Numbers.ToComplex(c))
            {
                D = full ? Numbers.ToComplex(d) : null,
                Z = full ? Numbers.ToComplex(z) : null,
                DtBias = full ? Numbers.ToComplex(dtBias) : null,
                InitialState = full ? Numbers.ToComplex(s0) : null,
                DtSoftplus = full,
                IsConstant = constant,
                IsComplex = Numbers.IsComplex<TA>(),
            }, Numbers.ToComplex(gradY), full ? Numbers.ToComplex(gradLast) : null, rows, Channels, Groups, States, length);

        using var context = SsmContext.Create(device);
        using var tu = context.ToDevice<T>(u, batch, Channels, length);
        using var tdt = context.ToDevice<T>(dt, batch, Channels, length);
        using var ta = context.ToDevice<TA>(a, Channels, States);
        using var tb = context.ToDevice<TB>(b, shape);
        using var tc = context.ToDevice<TB>(c, shape);
        using var td = context.ToDevice<TState>(d, Channels);
        using var tz = context.ToDevice<T>(z, batch, Channels, length);
        using var tdtBias = context.ToDevice<TState>(dtBias, Channels);
        using var initial = context.ToDevice<TA>(s0, rows.Count, Channels, States);
        using var starts = cuSeqlens is null ? null : context.ToDevice<long>(cuSeqlens, cuSeqlens.Length);
        using var tGradY = context.ToDevice<T>(gradY, batch, Channels, length);
        using var tGradLast = context.ToDevice<TA>(gradLast, rows.Count, Channels, States);
        using var gradU = context.Allocate<T>(batch, Channels, length);
        using var gradDt = context.Allocate<T>(batch, Channels, length);
        using var gradA = context.Allocate<TA>(Channels, States);
        using var gradB = context.Allocate<TB>(shape);
        using var gradC = context.Allocate<TB>(shape);
        using var gradD = context.Allocate<TState>(Channels);
        using var gradZ = context.Allocate<T>(batch, Channels, length);
        using var gradDtBias = context.Allocate<TState>(Channels);
        using var gradInitial = context.Allocate<TA>(rows.Count, Channels, States);
        context.SelectiveScanBackward(tu, tdt, ta, tb, tc, tGradY, new()
        {
            D = full ? td : null,
            Z = full ? tz : null,
            DtBias = full ? tdtBias : null,
            DtSoftplus = full,
            InitialState = full ? initial : null,
            CuSeqlens = starts,
            GradLastState = full ? tGradLast : null,
            GradU = gradU,
            GradDt = gradDt,
            GradA = gradA,
            GradB = gradB,
            GradC = gradC,
            GradD = gradD,
            GradZ = full ? gradZ : null,
            GradDtBias = gradDtBias,
            GradInitialState = gradInitial,
        });

        Numbers.AssertClose(gradU.ToArray(), expected.U, "grad_u", Factor);
        Numbers.AssertClose(gradDt.ToArray(), expected.Dt, "grad_dt", Factor);
        Numbers.AssertClose(gradA.ToArray(), expected.A, "grad_a", Factor);
        Numbers.AssertClose(gradB.ToArray(), expected.B, "grad_b", Factor);
        Numbers.AssertClose(gradC.ToArray(), expected.C, "grad_c", Factor);
        Numbers.AssertClose(gradD.ToArray(), expected.D, "grad_d", Factor);
        if (full)
            Numbers.AssertClose(gradZ.ToArray(), expected.Z, "grad_z", Factor);
        Numbers.AssertClose(gradDtBias.ToArray(), expected.DtBias, "grad_dt_bias", Factor);
        Numbers.AssertClose(gradInitial.ToArray(), expected.InitialState, "grad_initial_state", Factor);
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class SelectiveScanBackwardCallTests
{
    [Test]
    public void Tensor_and_TensorSpan_convert_by_themselves()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var u = Tensor.Create<float>([1, 2, 3, 4], [1, 1, 4]);
        var dt = Tensor.Create<float>([1, 1, 1, 1], [1, 1, 4]);
        var a = Tensor.Create<float>([0], [1, 1]);
        var one = Tensor.Create<float>([1, 1, 1, 1], [1, 1, 1, 4]);
        // y is the sum so far: u_t goes into all that follow.
        var gradU = new float[4];
        var gradD = new float[1];
        context.SelectiveScanBackward(u, dt, a, one, one, dt, new() { GradU = new TensorSpan<float>(gradU, [1, 1, 4]), GradD = gradD });
        Assert.That(gradU, Is.EqualTo((float[])[4, 3, 2, 1]));
        Assert.That(gradD, Is.EqualTo((float[])[10]));
        Assert.That(context.SelectiveScanBackwardWorkspace(u, dt, a, one, one, dt, new()), Is.Not.Negative);
    }

    [Test]
    public void A_gradient_of_a_gate_that_is_not_there_is_named()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var x = Tensor.Create<float>([1], [1, 1, 1]);
        var a = Tensor.Create<float>([0], [1, 1]);
        var b = Tensor.Create<float>([1], [1, 1, 1, 1]);
        var error = Assert.Throws<SsmArgumentException>(() => context.SelectiveScanBackward(x, x, a, b, b, x, new()
        {
            GradZ = new TensorSpan<float>(new float[1], [1, 1, 1]),
        }));
        Assert.That(error!.Message, Does.Contain("z: a tensor, as grad_z is wanted expected, NULL given"));
    }
}
