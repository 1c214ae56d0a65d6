using System.Runtime.InteropServices;

namespace SsmCuda.Tool.Bench;

/// <summary>
/// The functions of single-precision FFTW that a convolution takes, looked up in the library where it is installed. It is under the
/// GPL and no part of what is built or packaged here: nothing is linked to it, and only `ssm bench --peers` opens it.
/// </summary>
internal sealed unsafe class Fftw
{
    private const uint Measure = 0;

    // Debian's name, and those that other systems give it.
    private static readonly string[] FileNames = ["libfftw3f.so.3", "libfftw3f.3.dylib", "libfftw3f-3.dll"];

    // The library has one planner, which is not to be used by several threads at a time.
    private readonly delegate* unmanaged<nuint, void*> allocate;
    private readonly delegate* unmanaged<void*, void> free;
    private readonly delegate* unmanaged<int, float*, float*, uint, nint> planForward;
    private readonly delegate* unmanaged<int, float*, float*, uint, nint> planBackward;
    private readonly delegate* unmanaged<nint, float*, float*, void> forward;
    private readonly delegate* unmanaged<nint, float*, float*, void> backward;
    private readonly delegate* unmanaged<nint, void> destroyPlan;

    private Fftw(nint library)
    {
        Version = Marshal.PtrToStringUTF8(Export("fftwf_version")) ?? "";
        allocate = (delegate* unmanaged<nuint, void*>)Export("fftwf_malloc");
        free = (delegate* unmanaged<void*, void>)Export("fftwf_free");
        planForward = (delegate* unmanaged<int, float*, float*, uint, nint>)Export("fftwf_plan_dft_r2c_1d");
        planBackward = (delegate* unmanaged<int, float*, float*, uint, nint>)Export("fftwf_plan_dft_c2r_1d");
        forward = (delegate* unmanaged<nint, float*, float*, void>)Export("fftwf_execute_dft_r2c");
        backward = (delegate* unmanaged<nint, float*, float*, void>)Export("fftwf_execute_dft_c2r");
        destroyPlan = (delegate* unmanaged<nint, void>)Export("fftwf_destroy_plan");

        nint Export(string name) => NativeLibrary.TryGetExport(library, name, out var function)
            ? function
            : throw new PeerException($"it has no {name}");
    }

    public string Version { get; }

    /// <exception cref="PeerException">It is not installed.</exception>
    public static Fftw Open()
    {
        foreach (var name in FileNames)
        {
            if (NativeLibrary.TryLoad(name, out var library))
            {
                return new Fftw(library);
            }
        }
        throw new PeerException($"no {FileNames[0]}; Debian has it in libfftw3-single3");
    }

    /// <summary>Memory as its vectors want it.</summary>
    public float* Allocate(long count) => (float*)allocate(checked((nuint)count * sizeof(float)));

    public void Free(float* memory) => free(memory);

    /// <summary>Times several ways to transform n real numbers to n / 2 + 1 complex ones; what the arrays hold is lost.</summary>
    public nint PlanForward(int n, float* real, float* complex) => planForward(n, real, complex, Measure);

    public nint PlanBackward(int n, float* complex, float* real) => planBackward(n, complex, real, Measure);

    public void Forward(nint plan, float* real, float* complex) => forward(plan, real, complex);

    /// <summary>n times the numbers; what complex holds is lost.</summary>
    public void Backward(nint plan, float* complex, float* real) => backward(plan, complex, real);

    public void DestroyPlan(nint plan) => destroyPlan(plan);
}
