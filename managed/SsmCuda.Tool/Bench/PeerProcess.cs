using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace SsmCuda.Tool.Bench;

/// <summary>
/// Another library on the same task in the same run: a script of bench/peers in a process of its own, spoken to in JSON lines
/// (peer.py says how). An absent interpreter or library is an answer, never a failure of the run.
/// </summary>
internal sealed class PeerProcess : IPeer
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // The distribution's packages belong to its own interpreter, which need not be the first one on the PATH.
    private static readonly string[] Interpreters = ["python3", "/usr/bin/python3"];

    private readonly Process process;

    private PeerProcess(Process process, string name, string version, int threads)
    {
        this.process = process;
        Name = name;
        Version = version;
        Threads = threads;
    }

    public string Name { get; }

    public string Version { get; }

    public int Threads { get; }

    /// <summary>Starts every peer there is a script for; says which answered and why the others did not.</summary>
    public static List<PeerProcess> StartAll(int threads, Action<string> say)
    {
        var peers = new List<PeerProcess>();
        var folder = Path.Combine(AppContext.BaseDirectory, "peers");
        var scripts = Directory.Exists(folder)
            ? Directory.GetFiles(folder, "*_peer.py").Order(StringComparer.Ordinal).ToArray()
            : [];
        foreach (var script in scripts)
        {
            var name = Path.GetFileNameWithoutExtension(script).Replace("_peer", "", StringComparison.Ordinal);
            try
            {
                peers.Add(Start(script, name, threads));
                say($"peer {name}: version {peers[^1].Version}, {peers[^1].Threads} thread(s)");
            }
            catch (PeerException exception)
            {
                say($"peer {name}: not here ({exception.Message})");
            }
        }
        if (scripts.Length == 0)
        {
            say($"no peers: no scripts in {folder}");
        }
        return peers;
    }

    public IReadOnlyList<string> Prepare(BenchmarkCase benchmark)
    {
        if (benchmark.PeerTask is not { } task)
        {
            return [];
        }
        using var answer = Ask(writer =>
        {
            writer.WriteString("command", "prepare");
            writer.WriteString("operation", task.Operation);
            writer.WriteString("dtype", task.Dtype);
            writer.WriteNumber("batch", task.Batch);
            writer.WriteNumber("channels", task.Channels);
            writer.WriteNumber("length", task.Length);
            writer.WriteNumber("heads", task.Heads);
            writer.WriteNumber("states", task.States);
            writer.WriteNumber("width", task.Width);
            writer.WriteString("combine", task.Combine);
        });
        return [.. answer.RootElement.GetProperty("candidates").EnumerateArray().Select(name => name.GetString()!)];
    }

    public double? Run(string candidate)
    {
        using var answer = Ask(writer =>
        {
            writer.WriteString("command", "run");
            writer.WriteString("name", candidate);
        });
        return answer.RootElement.TryGetProperty("seconds", out var seconds) ? seconds.GetDouble() : null;
    }

    public void Dispose()
    {
        try
        {
            process.StandardInput.Close();
            if (!process.WaitForExit(TimeSpan.FromSeconds(5)))
            {
                process.Kill();
            }
        }
        catch (Exception exception) when (exception is IOException or InvalidOperationException)
        {
            // It has ended already.
        }
        process.Dispose();
    }

    // The first interpreter that has the library; the reason is that of the last one.
    private static PeerProcess Start(string script, string name, int threads)
    {
        foreach (var interpreter in Interpreters[..^1])
        {
            try
            {
                return Start(interpreter, script, name, threads);
            }
            catch (PeerException)
            {
                // The next one may have it.
            }
        }
        return Start(Interpreters[^1], script, name, threads);
    }

    private static PeerProcess Start(string interpreter, string script, string name, int threads)
    {
        var start = new ProcessStartInfo(interpreter, [script])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        var count = threads.ToString(CultureInfo.InvariantCulture);
        foreach (var variable in new[] { "SSM_PEER_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS" })
        {
            start.Environment[variable] = count;
        }
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception exception)
        {
            throw new PeerException(exception.Message);
        }
        try
        {
            using var hello = ReadLine(process);
            return hello.RootElement.TryGetProperty("version", out var version)
                ? new PeerProcess(process, name, version.GetString() ?? "", hello.RootElement.GetProperty("threads").GetInt32())
                : throw new PeerException(hello.RootElement.GetProperty("missing").GetString() ?? "");
        }
        catch (Exception)
        {
            process.Kill();
            process.Dispose();
            throw;
        }
    }

    private JsonDocument Ask(Action<Utf8JsonWriter> write)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }
        try
        {
            process.StandardInput.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.ToArray()));
            process.StandardInput.Flush();
        }
        catch (IOException exception)
        {
            throw new PeerException("it ended: " + exception.Message);
        }
        return ReadLine(process);
    }

    private static JsonDocument ReadLine(Process process)
    {
        var line = process.StandardOutput.ReadLineAsync();
        if (!line.Wait(Patience))
        {
            process.Kill();
            throw new PeerException($"no answer within {Patience.TotalSeconds} s");
        }
        try
        {
            return JsonDocument.Parse(line.Result ?? throw new PeerException("it ended without an answer"));
        }
        catch (JsonException exception)
        {
            throw new PeerException("it did not answer in JSON: " + exception.Message);
        }
    }
}
