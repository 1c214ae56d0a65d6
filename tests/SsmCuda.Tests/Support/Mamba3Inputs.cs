using System.Numerics;

namespace SsmCuda.Tests;

/// <summary>Random inputs of Mamba-3's operations on a device, and the same as a reference. T is the type of x, TState that of a
/// and of the states. Full: with everything optional.</summary>
internal sealed class Mamba3Inputs<T, TState> : IDisposable
    where T : unmanaged
    where TState : unmanaged
{
    public const int Heads = 4;
    public const int Channels = 3;
    public const int Groups = 2;
    public const int States = 7;
    public const int Angles = 2;

    private readonly SsmContext context;
    private readonly Random random;
    private readonly List<IDisposable> tensors = [];

    public Mamba3Inputs(SsmContext context, int batch, int length, bool full, long[]? cuSeqlens = null)
    {
        this.context = context;
        random = new Random(length);
        Full = full;
        var rows = cuSeqlens is null ? batch : cuSeqlens.Length - 1;
        (X, var x) = Make<T>(-1, 1, batch, length, Heads, Channels);
        (Dt, var dt) = Make<T>(full ? -3 : 0.01, full ? 1 : 0.3, batch, length, Heads);
        (A, var a) = Make<TState>(0.2, 2, true, batch, length, Heads);
        (B, var b) = Make<T>(-1, 1, batch, length, Groups, States);
        (C, var c) = Make<T>(-1, 1, batch, length, Groups, States);
        (Trap, var trap) = Make<T>(-2, 2, batch, length, Heads);
        (AngleRates, var angles) = Make<T>(-1, 1, batch, length, 1, Angles);
        (BBias, var bBias) = Make<TState>(-1, 1, Heads, States);
        (CBias, var cBias) = Make<TState>(-1, 1, Heads, States);
        (D, var d) = Make<TState>(-1, 1, Heads);
        (Z, var z) = Make<T>(-1, 1, batch, length, Heads, Channels);
        (DtBias, var dtBias) = Make<TState>(-1, 1, Heads);
        (State, var state) = Make<TState>(-1, 1, rows, Heads, Channels, States);
        (Angle, var angle) = Make<TState>(-3, 3, rows, Heads, Angles);
        (LastK, var k) = Make<TState>(-1, 1, rows, Heads, States);
        (LastX, var lastX) = Make<TState>(-1, 1, rows, Heads, Channels);
        if (cuSeqlens is not null)
            CuSeqlens = Keep(context.ToDevice<long>(cuSeqlens, cuSeqlens.Length));
        Reference = new(batch, length, Heads, Channels, Groups, States, full ? Angles : 0)
        {
            X = x,
            Dt = dt,
            A = a,
            B = b,
            C = c,
            Trap = trap,
            AngleRates = full ? angles : null,
            BBias = full ? bBias : null,
            CBias = full ? cBias : null,
            D = full ? d : null,
            Z = full ? z : null,
            DtBias = full ? dtBias : null,
            InitialState = full ? state : null,
            InitialAngle = full ? angle : null,
            InitialB = full ? k : null,
            InitialX = full ? lastX : null,
            CuSeqlens = cuSeqlens,
            DtSoftplus = full,
        };
    }

    public bool Full { get; }
    public Mamba3Reference Reference { get; }
    public DeviceTensor<T> X { get; }
    public DeviceTensor<T> Dt { get; }
    public DeviceTensor<TState> A { get; }
    public DeviceTensor<T> B { get; }
    public DeviceTensor<T> C { get; }
    public DeviceTensor<T> Trap { get; }
    public DeviceTensor<T> AngleRates { get; }
    public DeviceTensor<TState> BBias { get; }
    public DeviceTensor<TState> CBias { get; }
    public DeviceTensor<TState> D { get; }
    public DeviceTensor<T> Z { get; }
    public DeviceTensor<TState> DtBias { get; }
    public DeviceTensor<TState> State { get; }
    public DeviceTensor<TState> Angle { get; }
    public DeviceTensor<TState> LastK { get; }
    public DeviceTensor<TState> LastX { get; }
    public DeviceTensor<long>? CuSeqlens { get; }

    /// <summary>Random weights of the shape of a tensor, and the same as doubles.</summary>
    public (DeviceTensor<TValue> Tensor, double[] Values) Weights<TValue>(DeviceTensor<TValue> like)
        where TValue : unmanaged => Make<TValue>(-1, 1, [.. like.Shape.ToArray().Select(size => (int)size)]);

    public DeviceTensor<TValue> Like<TValue>(DeviceTensor<TValue> like)
        where TValue : unmanaged => Keep(context.Allocate<TValue>([.. like.Shape]));

    public void Dispose() => tensors.ForEach(tensor => tensor.Dispose());

    private (DeviceTensor<TValue>, double[]) Make<TValue>(double low, double high, params int[] shape)
        where TValue : unmanaged => Make<TValue>(low, high, false, shape);

    private (DeviceTensor<TValue>, double[]) Make<TValue>(double low, double high, bool negative, params int[] shape)
        where TValue : unmanaged
    {
        var values = Numbers.Random<TValue>(random, shape.Aggregate(1, (product, size) => product * size), low, high);
        if (negative)
            values = Array.ConvertAll(values, value => Numbers.FromComplex<TValue>(-Complex.Abs(Numbers.ToComplex(value))));
        return (Keep(context.ToDevice<TValue>(values, [.. shape.Select(size => (nint)size)])),
            Array.ConvertAll(values, value => Numbers.ToComplex(value).Real));
    }

    private DeviceTensor<TValue> Keep<TValue>(DeviceTensor<TValue> tensor)
        where TValue : unmanaged
    {
        tensors.Add(tensor);
        return tensor;
    }
}
