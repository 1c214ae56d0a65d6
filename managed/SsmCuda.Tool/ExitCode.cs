namespace SsmCuda.Tool;

/// <summary>What the process answers.</summary>
internal static class ExitCode
{
    public const int Success = 0;

    /// <summary>It ran, and something is wrong: a case failed, a benchmark computed a wrong result.</summary>
    public const int Wrong = 1;

    /// <summary>It could not run: no cases, no such device, a file that cannot be read.</summary>
    public const int CannotRun = 2;

    /// <summary>What ends a command with <see cref="CannotRun"/> and its message; anything else is a defect of the tool.</summary>
    public static bool IsExpected(Exception exception) => exception is IOException or UnauthorizedAccessException
        or InvalidDataException or SsmException or DllNotFoundException;
}
