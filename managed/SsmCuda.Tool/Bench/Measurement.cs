using System.Diagnostics;

namespace SsmCuda.Tool.Bench;

/// <summary>A result with what only this run knows of it.</summary>
/// <param name="Result">What is reported.</param>
/// <param name="Spread">Half the distance between the quartiles of its samples, relative to the median.</param>
/// <param name="Bound">Which ceiling its share is of.</param>
/// <param name="IsWrong">Its error exceeds what rounding explains.</param>
internal sealed record Measurement(BenchmarkResult Result, double Spread, Bound Bound, bool IsWrong)
{
    /// <summary>Of a peer: our median over its, from the same rounds.</summary>
    public double? OursOverPeer { get; init; }
}

/// <summary>
/// Times one benchmark: rounds in which the ceiling's probe, the operation, the plain loop and the peers take turns, so that a
/// machine that slows down slows them all; medians over the rounds.
/// </summary>
internal sealed class Measurer(BenchmarkDevice device, IReadOnlyList<IPeer> peers, bool quick, double budgetSeconds)
{
    // Shorter calls are timed several at once.
    private const double ShortestSample = 200e-6;

    private readonly int minRounds = quick ? 3 : 5;
    private readonly int maxRounds = quick ? 5 : 25;
    private readonly double loopBudgetSeconds = budgetSeconds / 2;

    public IEnumerable<Measurement> Measure(BenchmarkDefinition definition)
    {
        using var benchmark = definition.Create(device);
        benchmark.Run();
        device.Synchronize();
        var error = benchmark.MaxError();
        var isWrong = !(error <= benchmark.Tolerance);

        // Nothing measures a GPU's arithmetic: what its memory allows is the ceiling of everything there.
        var bound = device.IsGpu ? Bound.Memory : benchmark.Bound;
        var candidates = PreparePeers(benchmark);
        var calls = (int)Math.Ceiling(ShortestSample / Math.Max(1e-9, device.Time(benchmark.Run, 1)));
        var probes = new List<double>();
        var samples = new List<double>();
        var loops = new List<double>();
        var clock = Stopwatch.StartNew();
        for (var round = 0; round < minRounds || (round < maxRounds && clock.Elapsed.TotalSeconds < budgetSeconds); round++)
        {
            if (device.ProbeRate(bound) is { } rate)
            {
                probes.Add(rate);
            }
            samples.Add(device.Time(benchmark.Run, calls) / calls);
            if (benchmark.HasLoop && (loops.Count == 0 || (loops.Count < minRounds && loops.Sum() < loopBudgetSeconds)))
            {
                var begin = Stopwatch.GetTimestamp();
                benchmark.RunLoop();
                loops.Add(Stopwatch.GetElapsedTime(begin).TotalSeconds);
            }
            RunPeers(candidates);
        }

        var ceiling = probes.Count > 0 ? Statistics.Median(probes) : (double?)null;
        var loop = loops.Count > 0 ? Statistics.Median(loops) : (double?)null;
        var ours = Statistics.Median(samples);
        yield return Report(definition.Operation, device.Threads, samples, error, isWrong);
        foreach (var candidate in candidates.Where(candidate => candidate.Seconds.Count > 0))
        {
            yield return Report($"{candidate.Peer.Name} {candidate.Name}", candidate.Peer.Threads, candidate.Seconds, null, false) with
            {
                OursOverPeer = ours / Statistics.Median(candidate.Seconds),
            };
        }

        Measurement Report(string operation, int threads, List<double> seconds, double? maxError, bool wrong)
        {
            var median = Statistics.Median(seconds);
            var perSecond = (bound == Bound.Memory ? benchmark.Bytes : benchmark.Flops) / median;
            return new Measurement(new BenchmarkResult
            {
                Operation = operation,
                Shape = definition.Shape,
                Dtype = definition.Dtype,
                Device = device.Name,
                Threads = threads,
                MedianSeconds = median,
                Bytes = benchmark.Bytes,
                Flops = benchmark.Flops,
                GigabytesPerSecond = benchmark.Bytes / median / 1e9,
                GigaflopsPerSecond = benchmark.Flops / median / 1e9,
                ShareOfCeiling = perSecond / ceiling,
                SpeedupOverLoop = loop / median,
                MaxError = maxError is { } value && !double.IsFinite(value) ? null : maxError,
            }, Statistics.RelativeSpread(seconds), bound, wrong);
        }
    }

    private List<Candidate> PreparePeers(BenchmarkCase benchmark)
    {
        var candidates = new List<Candidate>();
        foreach (var peer in peers)
        {
            try
            {
                candidates.AddRange(peer.Prepare(benchmark).Select(name => new Candidate(peer, name)));
            }
            catch (PeerException exception)
            {
                Screen.Error($"peer {peer.Name}: {exception.Message}");
            }
        }
        return candidates;
    }

    private void RunPeers(List<Candidate> candidates)
    {
        foreach (var candidate in candidates)
        {
            if (!candidate.IsAlive || !candidate.HasTime(loopBudgetSeconds, minRounds))
            {
                continue;
            }
            try
            {
                if (candidate.Peer.Run(candidate.Name) is not { } seconds)
                {
                    candidate.IsAlive = false;
                }
                else if (candidate.IsWarm || seconds > loopBudgetSeconds)
                {
                    // A call this long is a sample even if it was the first.
                    candidate.Seconds.Add(seconds);
                }
                candidate.IsWarm = true;
            }
            catch (PeerException exception)
            {
                candidate.IsAlive = false;
                Screen.Error($"peer {candidate.Peer.Name}: {exception.Message}");
            }
        }
    }

    private sealed record Candidate(IPeer Peer, string Name)
    {
        public List<double> Seconds { get; } = [];

        public bool IsAlive { get; set; } = true;

        public bool IsWarm { get; set; }

        public bool HasTime(double budget, int rounds) => Seconds.Count == 0 || (Seconds.Count < rounds && Seconds.Sum() < budget);
    }
}
