using System.Runtime.InteropServices;

namespace SsmCuda.Interop;

internal static unsafe partial class NativeMethods
{
    // The runtime asks the resolver at the first call of each entry point, so it has to be there before any of them.
    static NativeMethods() => NativeLibrary.SetDllImportResolver(typeof(NativeMethods).Assembly, LibraryResolver.Resolve);

    // The same functions with bare pointers, for ReleaseHandle: a finalizer cannot use another finalized SafeHandle, and
    // nobody a closed one, though it may still be held.
    [LibraryImport(LibraryName, EntryPoint = "ssm_event_create")]
    public static partial int EventCreateRaw(nint context, nint* @event);

    [LibraryImport(LibraryName, EntryPoint = "ssm_context_synchronize")]
    public static partial int ContextSynchronizeRaw(nint context);

    [LibraryImport(LibraryName, EntryPoint = "ssm_event_record")]
    public static partial int EventRecordRaw(nint context, nint @event);

    [LibraryImport(LibraryName, EntryPoint = "ssm_event_synchronize")]
    public static partial int EventSynchronizeRaw(nint @event);
}
