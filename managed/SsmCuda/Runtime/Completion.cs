using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>Turns the native notification into a task. The native callback must not call the library, and letting the
/// context go may, so the callback only queues this object to the thread pool.</summary>
internal sealed unsafe class Completion : IThreadPoolWorkItem
{
    private readonly TaskCompletionSource source = new();
    private readonly ContextHandle context;
    private int status;

    private Completion(ContextHandle context) => this.context = context;

    public static Task Start(SsmContext context)
    {
        var completion = new Completion(context.Handle);
        var added = false;
        context.Handle.DangerousAddRef(ref added);
        var self = GCHandle.Alloc(completion);
        var status = NativeMethods.ContextNotify(context.Handle, &Completed, (void*)GCHandle.ToIntPtr(self));
        if (status != 0)
        {
            self.Free();
            context.Handle.DangerousRelease();
            SsmException.ThrowIfFailed(status);
        }
        return completion.source.Task;
    }

    [UnmanagedCallersOnly]
    private static void Completed(void* user, int status)
    {
        var handle = GCHandle.FromIntPtr((nint)user);
        var completion = (Completion)handle.Target!;
        handle.Free();
        completion.status = status;
        ThreadPool.UnsafeQueueUserWorkItem(completion, preferLocal: false);
    }

    void IThreadPoolWorkItem.Execute()
    {
        context.DangerousRelease();
        if (status == 0)
            source.SetResult();
        else
            source.SetException(SsmException.Create((SsmStatus)status, $"The queued work failed: {StatusName(status)}."));
    }

    private static string StatusName(int status) => Utf8.ToString(NativeMethods.StatusName(status));
}
