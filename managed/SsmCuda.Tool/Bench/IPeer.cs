namespace SsmCuda.Tool.Bench;

/// <summary>Another library that does a benchmark's task in the same run, turn by turn with ours.</summary>
internal interface IPeer : IDisposable
{
    string Name { get; }

    /// <summary>How many threads it uses.</summary>
    int Threads { get; }

    /// <summary>Puts the data in place; answers the ways it can do the task, none where it cannot.</summary>
    /// <exception cref="PeerException">It cannot go on, or its result is not ours.</exception>
    IReadOnlyList<string> Prepare(BenchmarkCase benchmark);

    /// <summary>Seconds of one call; null where the peer failed at it.</summary>
    /// <exception cref="PeerException">It cannot go on.</exception>
    double? Run(string candidate);
}

internal static class Peers
{
    /// <summary>Starts every peer there is; says which are here and why the others are not.</summary>
    public static List<IPeer> StartAll(int threads, Action<string> say)
    {
        var peers = new List<IPeer>();
        try
        {
            var fftw = FftwPeer.Open(threads);
            say($"peer fftw: {fftw.Version}, {threads} thread(s)");
            peers.Add(fftw);
        }
        catch (PeerException exception)
        {
            say($"peer fftw: not here ({exception.Message})");
        }
        peers.AddRange(PeerProcess.StartAll(threads, say));
        return peers;
    }
}

/// <summary>A peer that cannot take part.</summary>
internal sealed class PeerException(string message) : Exception(message);
