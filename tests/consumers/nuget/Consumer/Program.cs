// A real job with the package: MNIST's test digits as sequences of 784 pixels, with noise that a recurrence smooths away.
//
//   h_t = a_t h_{t-1} + (1 - a_t) x_t,   a_t = sigmoid(theta),   x = pixel + noise
//
// theta is learned so that h comes close to the pixels without noise, by gradient descent with the gradients of
// linear_recurrence. With it every digit is smoothed forward and, from that, backward in time, so that nothing is shifted. Each
// result is checked against a loop in double precision: the loss, its gradient, the digits smoothed both ways.
using System.Buffers.Binary;
using System.Diagnostics;
using SsmCuda;

const int Length = 28 * 28;
const int TrainingDigits = 1000;
const int Steps = 12;
const double Noise = 0.5;
const double LearningRate = 80;

if (args.Length != 1)
{
    Console.Error.WriteLine("usage: Consumer t10k-images-idx3-ubyte");
    return 2;
}
var pixels = ReadDigits(args[0]);
var digits = pixels.Length / Length;
var random = new Random(1);
var noisy = Array.ConvertAll(pixels, pixel => (float)(pixel + Noise * (2 * random.NextDouble() - 1)));

using var context = SsmContext.Create(SsmDeviceType.Cpu);
var clock = Stopwatch.StartNew();

// ---- Learn the decay ---------------------------------------------------------------------------------------------------

var training = noisy.AsSpan(0, TrainingDigits * Length);
var target = pixels.AsSpan(0, TrainingDigits * Length);
var (a, b, h) = (new float[training.Length], new float[training.Length], new float[training.Length]);
var (gradH, gradA, gradB) = (new float[training.Length], new float[training.Length], new float[training.Length]);
var theta = -1.5;
var (firstLoss, loss) = (0.0, 0.0);
for (var step = 0; step < Steps; step++)
{
    var decay = Sigmoid(theta);
    Fill(training, decay, a, b);
    context.LinearRecurrence<float>(a, b, h, batch: TrainingDigits, channels: 1, length: Length);
    loss = Loss(target, h, gradH);
    context.LinearRecurrenceBackward<float>(a, gradH, TrainingDigits, 1, Length, new()
    {
        H = h.AsSpan(),
        GradA = gradA.AsSpan(),
        GradB = gradB.AsSpan(),
    });
    var gradient = 0.0;
    for (var i = 0; i < gradA.Length; i++)
    {
        gradient += (gradA[i] - gradB[i] * (double)training[i]) * decay * (1 - decay);
    }
    var (expectedLoss, expectedGradient) = ReferenceGradient(training, target, (float)decay);
    Check("loss", loss, expectedLoss, 1e-6 * expectedLoss);
    // Near the minimum the gradient is a small difference of large sums.
    Check("gradient", gradient, expectedGradient, 1e-4 * Math.Abs(expectedGradient) + 1e-7);
    firstLoss = step == 0 ? loss : firstLoss;
    theta -= LearningRate * gradient;
}
if (!(loss < 0.8 * firstLoss))
{
    throw new InvalidOperationException($"nothing was learned: the loss went from {firstLoss} to {loss}");
}

// ---- Smooth every digit, forward and backward ----------------------------------------------------------------------------

var learned = (float)Sigmoid(theta);
var (decays, inputs) = (new float[pixels.Length], new float[pixels.Length]);
var (forward, backward) = (new float[pixels.Length], new float[pixels.Length]);
Fill(noisy, learned, decays, inputs);
context.LinearRecurrence<float>(decays, inputs, forward, digits, 1, Length);
for (var i = 0; i < inputs.Length; i++)
{
    inputs[i] = (1 - learned) * forward[i];
}
context.LinearRecurrence<float>(decays, inputs, backward, digits, 1, Length, new() { Reverse = true });

var largest = 0.0;
for (var digit = 0; digit < digits; digit++)
{
    var (state, smooth) = (0.0, new double[Length]);
    for (var t = 0; t < Length; t++)
    {
        var i = digit * Length + t;
        smooth[t] = state = learned * state + (1 - learned) * noisy[i];
        largest = Math.Max(largest, Math.Abs(forward[i] - state));
    }
    state = 0;
    for (var t = Length - 1; t >= 0; t--)
    {
        state = learned * state + (1 - learned) * smooth[t];
        largest = Math.Max(largest, Math.Abs(backward[digit * Length + t] - state));
    }
}
// Smoothed pixels are of the order of 1; NaN fails too.
if (!(largest < 2e-6))
{
    throw new InvalidOperationException($"a smoothed pixel is off by {largest}");
}
Console.WriteLine($"{digits} digits, decay {learned:0.000}, loss {firstLoss:0.0000} to {loss:0.0000}, "
    + $"largest error {largest:0.0e+0}, {clock.ElapsedMilliseconds} ms with the checks (library {SsmLibrary.Version}, {context.Device.Name})");
return 0;

// The images of an IDX file, as numbers between 0 and 1.
static float[] ReadDigits(string path)
{
    var file = File.ReadAllBytes(path);
    var header = new int[4];
    for (var i = 0; i < 4; i++)
    {
        header[i] = BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(4 * i));
    }
    return header is [0x803, 10000, 28, 28] && file.Length == 16 + 10000 * Length
        ? Array.ConvertAll(file[16..], pixel => pixel / 255f)
        : throw new InvalidDataException($"{path} does not hold 10,000 images of 28 x 28");
}

static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

static void Fill(ReadOnlySpan<float> x, double decay, float[] a, float[] b)
{
    Array.Fill(a, (float)decay);
    for (var i = 0; i < b.Length; i++)
    {
        b[i] = (float)((1 - decay) * x[i]);
    }
}

// Half the mean squared distance of h from the pixels, and its gradient by h.
static double Loss(ReadOnlySpan<float> target, float[] h, float[] gradH)
{
    var sum = 0.0;
    for (var i = 0; i < h.Length; i++)
    {
        var error = (double)h[i] - target[i];
        sum += 0.5 * error * error;
        gradH[i] = (float)(error / h.Length);
    }
    return sum / h.Length;
}

// The same in double precision, with the derivative of h by the decay carried forward instead of the gradient backward.
static (double Loss, double Gradient) ReferenceGradient(ReadOnlySpan<float> x, ReadOnlySpan<float> target, double decay)
{
    var (sum, gradient, state, derivative) = (0.0, 0.0, 0.0, 0.0);
    for (var i = 0; i < x.Length; i++)
    {
        if (i % Length == 0)
        {
            (state, derivative) = (0, 0);
        }
        derivative = decay * derivative + state - x[i];
        state = decay * state + (1 - decay) * x[i];
        var error = state - target[i];
        sum += 0.5 * error * error;
        gradient += error * derivative;
    }
    return (sum / x.Length, gradient / x.Length * decay * (1 - decay));
}

static void Check(string what, double value, double expected, double tolerance)
{
    if (!(Math.Abs(value - expected) <= tolerance))
    {
        throw new InvalidOperationException($"{what}: {value}, the loop in double precision gives {expected}");
    }
}
