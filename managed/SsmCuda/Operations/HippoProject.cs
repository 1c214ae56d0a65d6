using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a projection may be told beyond its tensors. Default values are absent.</summary>
public ref struct HippoProjectOptions
{
    /// <summary>Any but Dirac and Async; Legs not Zoh either.</summary>
    public SsmDiscretization Discretization;

    /// <summary>What was before the first sample where there is no initial state.</summary>
    public SsmHippoStart Start;

    /// <summary>Of the generalized bilinear rule, 0 to 1; 0 otherwise.</summary>
    public double Alpha;

    /// <summary>The step of a sliding measure in its own time, positive; 0 for Legs.</summary>
    public double Dt;

    /// <summary>When the last step before this call was, with timestamps; 0 where there was none.</summary>
    public double TimeBefore;

    /// <summary>Steps of the signal before this call, of Legs without timestamps.</summary>
    public long StepsBefore;

    /// <summary>(L) of the type of f, Legs alone: when each sample was taken; ascending from TimeBefore on.</summary>
    public ReadOnlyTensorView Timestamps;

    /// <summary>(N) or (B,N) of the type of f: the coefficients before the first step.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>Output (N) or (B,N) of the type of f: the coefficients after the last step.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The coefficients of a signal after each of its steps, c_t = a_bar c_{t-1} + b_bar f_t (Gu et al. 2020,
    /// arXiv 2008.07669). Legs varies with time: step k = 1, 2, .. takes A/k and B/k, and N operations. The sliding
    /// measures take one dt, and N^2 operations for a step.</summary>
    /// <param name="measure">The measure.</param>
    /// <param name="f">(L) or (B,L) of float or double: the signals.</param>
    /// <param name="coefficients">Output (L,N) or (B,L,N) of the type of f.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void HippoProject(SsmHippoMeasure measure, in ReadOnlyTensorView f, in TensorView coefficients,
        in HippoProjectOptions options = default) =>
        HippoProject(measure, f, coefficients, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="HippoProject(SsmHippoMeasure, in ReadOnlyTensorView, in TensorView, in HippoProjectOptions)"/>
    /// <returns>Bytes.</returns>
    public long HippoProjectWorkspace(SsmHippoMeasure measure, in ReadOnlyTensorView f, in TensorView coefficients,
        in HippoProjectOptions options = default)
    {
        ulong bytes;
        HippoProject(measure, f, coefficients, options, &bytes);
        return (long)bytes;
    }

    private void HippoProject(SsmHippoMeasure measure, in ReadOnlyTensorView f, in TensorView coefficients,
        in HippoProjectOptions options, ulong* workspace)
    {
        fixed (byte* pF = f, pCoefficients = coefficients, pTimestamps = options.Timestamps,
        pInitialState = options.InitialState, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmHippoProjectArgs args = new()
            {
                StructSize = (uint)sizeof(SsmHippoProjectArgs),
                Measure = measure,
                Discretization = options.Discretization,
                Start = options.Start,
                Alpha = options.Alpha,
                Dt = options.Dt,
                TimeBefore = options.TimeBefore,
                StepsBefore = options.StepsBefore,
                F = call.Bind(f, pF, "f"),
                Coefficients = call.Bind(coefficients, pCoefficients, "coefficients"),
                Timestamps = call.Bind(options.Timestamps, pTimestamps, "timestamps"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(workspace is null
                ? NativeMethods.HippoProject(Handle, &args)
                : NativeMethods.HippoProjectWorkspace(Handle, &args, workspace));
        }
    }
}
