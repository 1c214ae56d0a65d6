using System.Runtime.InteropServices;

namespace SsmCuda.Interop;

internal static unsafe partial class NativeMethods
{
    // The runtime asks the resolver at the first call of each entry point, so it has to be there before any of them.
    static NativeMethods() => NativeLibrary.SetDllImportResolver(typeof(NativeMethods).Assembly, LibraryResolver.Resolve);

    // The same functions with bare pointers, for ReleaseHandle: a finalizer cannot use another finalized SafeHandle.
    [LibraryImport(LibraryName, EntryPoint = "ssm_event_record")]
    public static partial int EventRecordRaw(nint context, nint @event);

    [LibraryImport(LibraryName, EntryPoint = "ssm_event_synchronize")]
    public static partial int EventSynchronizeRaw(nint @event);
}
