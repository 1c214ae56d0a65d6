using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>A point in the work of a context that others can wait for, and that time is measured between.</summary>
public sealed unsafe class SsmEvent : IDisposable
{
    private readonly SsmContext context;

    internal SsmEvent(SsmContext context)
    {
        this.context = context;
        context.Enter();
        try
        {
            Handle = new EventHandle(context.Handle);
            nint pointer;
            var status = NativeMethods.EventCreate(context.Handle, &pointer);
            if (status != 0)
                Handle.Dispose();
            SsmContext.Check(status);
            Handle.Set(pointer);
        }
        finally
        {
            context.Exit();
        }
    }

    internal EventHandle Handle { get; }

    /// <summary>True once everything before the event has ended, and if it was never recorded.</summary>
    public bool IsCompleted
    {
        get
        {
            int completed;
            SsmContext.Check(NativeMethods.EventQuery(Open(), &completed));
            return completed != 0;
        }
    }

    /// <summary>Puts the event behind everything that its context has queued so far.</summary>
    public void Record() => Record(context);

    /// <summary>Puts the event behind everything that a context has queued so far.</summary>
    /// <param name="on">A context on the same device.</param>
    public void Record(SsmContext on)
    {
        ArgumentNullException.ThrowIfNull(on);
        on.Enter();
        try
        {
            SsmContext.Check(NativeMethods.EventRecord(on.Handle, Open()));
        }
        finally
        {
            on.Exit();
        }
    }

    /// <summary>Waits until everything before the event has ended.</summary>
    public void Synchronize() => SsmContext.Check(NativeMethods.EventSynchronize(Open()));

    /// <summary>The time between two recorded events whose work has ended.</summary>
    /// <param name="start">The earlier event.</param>
    /// <returns>The time from it to this event.</returns>
    public TimeSpan ElapsedSince(SsmEvent start)
    {
        ArgumentNullException.ThrowIfNull(start);
        double seconds;
        SsmContext.Check(NativeMethods.EventElapsed(start.Open(), Open(), &seconds));
        return TimeSpan.FromSeconds(seconds);
    }

    /// <summary>Destroys the event.</summary>
    public void Dispose() => Handle.Dispose();

    private EventHandle Open()
    {
        ObjectDisposedException.ThrowIf(Handle.IsClosed, this);
        return Handle;
    }
}
