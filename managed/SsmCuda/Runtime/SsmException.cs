using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>A call of the native library failed. <see cref="Exception.Message"/> is the library's own sentence, which names
/// the argument, what was expected and what came; <see cref="Status"/> is the status it answered.</summary>
public class SsmException : Exception
{
    /// <summary>Makes an exception with <see cref="SsmStatus.Internal"/>.</summary>
    public SsmException()
        : this(SsmStatus.Internal, "The native library failed.")
    {
    }

    /// <summary>Makes an exception with <see cref="SsmStatus.Internal"/>.</summary>
    /// <param name="message">The sentence.</param>
    public SsmException(string message)
        : this(SsmStatus.Internal, message)
    {
    }

    /// <summary>Makes an exception with <see cref="SsmStatus.Internal"/>.</summary>
    /// <param name="message">The sentence.</param>
    /// <param name="innerException">What caused it.</param>
    public SsmException(string message, Exception innerException)
        : base(message, innerException) => Status = SsmStatus.Internal;

    /// <summary>Makes an exception.</summary>
    /// <param name="status">The status.</param>
    /// <param name="message">The sentence.</param>
    public SsmException(SsmStatus status, string message)
        : base(message) => Status = status;

    /// <summary>What the native library answered.</summary>
    public SsmStatus Status { get; }

    /// <summary>Throws what a status other than success says, with the sentence of this thread's last failure.</summary>
    internal static void ThrowIfFailed(int status)
    {
        if (status != 0)
            Throw(status);
    }

    private static unsafe void Throw(int status) =>
        throw Create((SsmStatus)status, Utf8.ToString(NativeMethods.LastError()));

    internal static SsmException Create(SsmStatus status, string message) => status switch
    {
        SsmStatus.InvalidArgument => new SsmArgumentException(message),
        SsmStatus.Unsupported => new SsmUnsupportedException(message),
        SsmStatus.OutOfMemory => new SsmOutOfMemoryException(message),
        SsmStatus.WorkspaceTooSmall => new SsmWorkspaceException(message),
        SsmStatus.DriverMissing or SsmStatus.NoDevice or SsmStatus.LibraryNotFound or SsmStatus.NoKernelImage =>
            new SsmBackendException(status, message),
        SsmStatus.DeviceFault => new SsmDeviceFaultException(message),
        SsmStatus.InvalidState => new SsmInvalidStateException(message),
        _ => new SsmException(status, message),
    };
}

/// <summary>An argument is wrong: element type, shape, strides, device, overlap or an unknown option. The message names the
/// argument, what was expected and what came. Status <see cref="SsmStatus.InvalidArgument"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmArgumentException(string message) : SsmException(SsmStatus.InvalidArgument, message);

/// <summary>The arguments are well formed, but the operation or the device does not support them. Status
/// <see cref="SsmStatus.Unsupported"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmUnsupportedException(string message) : SsmException(SsmStatus.Unsupported, message);

/// <summary>The device or the host has not enough memory; the context stays usable. Status
/// <see cref="SsmStatus.OutOfMemory"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmOutOfMemoryException(string message) : SsmException(SsmStatus.OutOfMemory, message);

/// <summary>The workspace given, or kept while capturing, is smaller than the bytes the message names. Status
/// <see cref="SsmStatus.WorkspaceTooSmall"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmWorkspaceException(string message) : SsmException(SsmStatus.WorkspaceTooSmall, message);

/// <summary>A device cannot be had: <see cref="SsmStatus.DriverMissing"/>, <see cref="SsmStatus.NoDevice"/>,
/// <see cref="SsmStatus.LibraryNotFound"/> or <see cref="SsmStatus.NoKernelImage"/>. <see cref="SsmDevice.BackendLog"/>
/// tells what was tried.</summary>
/// <param name="status">Which of the four.</param>
/// <param name="message">The native sentence.</param>
public sealed class SsmBackendException(SsmStatus status, string message) : SsmException(status, message);

/// <summary>The device reported a fault in work that was queued before; every later call on the context fails alike. Status
/// <see cref="SsmStatus.DeviceFault"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmDeviceFaultException(string message) : SsmException(SsmStatus.DeviceFault, message);

/// <summary>The call is not legal now, for example ending a capture that was not begun. Status
/// <see cref="SsmStatus.InvalidState"/>.</summary>
/// <param name="message">The native sentence.</param>
public sealed class SsmInvalidStateException(string message) : SsmException(SsmStatus.InvalidState, message);

/// <summary>Zero-terminated UTF-8 in both directions.</summary>
internal static unsafe class Utf8
{
    public static string ToString(byte* text) => Marshal.PtrToStringUTF8((nint)text) ?? "";

    /// <summary>The bytes with their zero.</summary>
    public static byte[] FromString(string text)
    {
        if (text.Contains('\0', StringComparison.Ordinal))
            throw new ArgumentException("The text contains a zero character.", nameof(text));
        var bytes = new byte[System.Text.Encoding.UTF8.GetByteCount(text) + 1];
        System.Text.Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }
}
