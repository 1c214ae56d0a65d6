using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tests.Runtime;

internal sealed class LifetimeTests
{
    [Test]
    public void Everything_may_be_disposed_in_every_order([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        const int count = 6;
        var orders = Permutations(count).ToList();
        // All of them on the CPU; a part where a context costs more.
        var step = device == SsmDeviceType.Cpu ? 1 : 37;
        for (var i = 0; i < orders.Count; i += step)
        {
            var context = SsmContext.Create(device);
            var tensor = context.ToDevice<float>(new float[64], 1, 1, 64);
            var part = tensor.Slice(2, 8, 16);
            var pinned = new PinnedBuffer<float>(context, 64);
            var stream = context.CreateStream();
            context.UseStream(stream);
            var graph = context.Capture(() => context.LinearRecurrence(part, part, part));
            graph.Launch();
            tensor.CopyTo(pinned);
            var workspace = context.Allocate<byte>(4096);
            context.SetWorkspace(workspace);
            workspace.Dispose();
            IDisposable[] items = [context, tensor, part, pinned, stream, graph];
            foreach (var item in orders[i])
                items[item].Dispose();
        }
    }

    [Test]
    public void Ten_thousand_rounds_do_not_grow([Values] bool dispose)
    {
        var rounds = dispose ? 10_000 : 2_000;
        Rounds(rounds / 4, dispose);
        var before = ResidentBytes();
        Rounds(rounds, dispose);
        var growth = ResidentBytes() - before;
        // A context or a workspace that stayed would leave 64 KB in every other round: 64 MB or more.
        Assert.That(growth, Is.LessThan(24 << 20), "bytes of resident memory");
    }

    private static void Rounds(int count, bool dispose)
    {
        for (var i = 0; i < count; i++)
        {
            Round(dispose, isWorkspaceGiven: i % 2 == 0);
            if (!dispose && i % 100 == 99)
                CollectGarbage();
        }
        CollectGarbage();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Round(bool dispose, bool isWorkspaceGiven)
    {
        var context = SsmContext.Create(SsmDeviceType.Cpu);
        var a = context.Allocate<float>(1, 4, 4096);
        a.Clear();
        var part = a.Slice(2, 0, 100);
        // 64 KB have to be packed: in memory that the context keeps, or in what it is given and then keeps.
        var storage = context.Allocate<float>(1, 4096, 4);
        var turned = storage.Permute(0, 2, 1);
        var workspace = context.Allocate<byte>(isWorkspaceGiven ? 1 << 18 : 0);
        if (isWorkspaceGiven)
            context.SetWorkspace(workspace);
        storage.Clear();
        context.LinearRecurrence(a, turned, a);
        var mark = context.CreateEvent();
        var graph = context.Capture(() => context.LinearRecurrence(part, part, part));
        graph.Launch();
        var pinned = new PinnedBuffer<float>(context, 100);
        var stream = context.CreateStream();
        context.UseStream(stream);
        mark.Record();
        if (!dispose)
            return;
        foreach (var item in (IDisposable[])[workspace, context, part, a, storage, turned, graph, mark, pinned, stream])
            item.Dispose();
    }

    [Test]
    public void Finalizers_release_what_was_forgotten_while_work_is_queued(
        [ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        for (var i = 0; i < 20; i++)
        {
            Forget(device);
            CollectGarbage();
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget(SsmDeviceType device)
    {
        var context = SsmContext.Create(device);
        var other = SsmContext.Create(device);
        var a = context.ToDevice<float>(new float[8192], 1, 2, 4096);
        var pinned = new PinnedBuffer<float>(context, 8192);
        a.CopyTo(pinned);
        other.LinearRecurrence(a, a, a); // memory of one context in the work of another
        _ = context.CompletionAsync();
        _ = other.CompletionAsync();
        context.SetWorkspace(context.Allocate<byte>(1024));
    }

    [Test]
    public void Disposing_on_another_thread_during_calls_gives_exceptions_only(
        [ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        var rounds = device == SsmDeviceType.Cpu ? 300 : 20;
        for (var i = 0; i < rounds; i++)
        {
            var context = SsmContext.Create(device);
            var a = context.ToDevice<float>(new float[512], 2, 2, 128);
            var h = context.Allocate<float>(2, 2, 128);
            using var started = new ManualResetEventSlim();
            var worker = Task.Run(() =>
            {
                try
                {
                    while (true)
                    {
                        context.LinearRecurrence(a, a, h);
                        started.Set();
                    }
                }
                catch (ObjectDisposedException)
                {
                    return;
                }
            });
            started.Wait(TimeSpan.FromSeconds(30));
            IDisposable[] items = [context, a, h];
            items[i % 3].Dispose();
            Assert.That(worker.Wait(TimeSpan.FromSeconds(30)), "the worker saw the disposal");
            foreach (var item in items)
                item.Dispose();
        }
    }

    [Test]
    public void Two_threads_in_one_context_get_exceptions_only()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var a = context.ToDevice<float>(new float[65536], 4, 4, 4096);
        using var barrier = new Barrier(2);
        var refused = 0;
        Parallel.Invoke(Work, Work);
        Assert.That(refused, Is.Positive, "two threads never met");

        void Work()
        {
            using var h = Allocate();
            barrier.SignalAndWait();
            for (var i = 0; i < 20_000 && (i < 200 || Volatile.Read(ref refused) == 0); i++)
            {
                try
                {
                    context.LinearRecurrence(a, a, h);
                }
                catch (InvalidOperationException error) when (error is not ObjectDisposedException)
                {
                    Interlocked.Increment(ref refused);
                }
            }
        }

        DeviceTensor<float> Allocate()
        {
            lock (barrier)
                return context.Allocate<float>(4, 4, 4096);
        }
    }

    [Test]
    public void Sixty_four_threads_share_the_pool()
    {
        Assume.That(OperatingSystem.IsLinux(), "threads are counted in /proc");
        const int threads = 64;
        using var ready = new Barrier(threads + 1);
        var workers = Enumerable.Range(0, threads).Select(_ => new Thread(() =>
        {
            using var context = SsmContext.Create(SsmDeviceType.Cpu);
            // Large enough to be spread over threads.
            using var a = context.Allocate<float>(8, 64, 2048);
            a.Clear();
            using var h = context.Allocate<float>(8, 64, 2048);
            ready.SignalAndWait();
            ready.SignalAndWait();
            for (var i = 0; i < 5; i++)
                context.LinearRecurrence(a, a, h);
            ready.SignalAndWait();
            ready.SignalAndWait();
        })).ToList();
        workers.ForEach(worker => worker.Start());
        ready.SignalAndWait();
        ready.SignalAndWait();
        ready.SignalAndWait(); // all have computed and all are still there
        var names = NamesOfThreads();
        ready.SignalAndWait();
        workers.ForEach(worker => worker.Join());
        // Threads of the runtime are named .NET something; what is neither that nor ours is the native pool.
        var others = names.Count - threads - names.Count(name => name.StartsWith(".NET", StringComparison.Ordinal));
        Assert.That(others, Is.LessThanOrEqualTo(Environment.ProcessorCount + 4), string.Join(" ", names));
    }

    private static List<string> NamesOfThreads() =>
        [.. Directory.EnumerateDirectories("/proc/self/task").Select(task =>
        {
            try
            {
                return File.ReadAllText(Path.Combine(task, "comm")).Trim();
            }
            catch (IOException)
            {
                return ".NET gone";
            }
        })];

    private static void CollectGarbage()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private static long ResidentBytes()
    {
        CollectGarbage();
        if (!OperatingSystem.IsLinux())
            return Environment.WorkingSet;
        var pages = File.ReadAllText("/proc/self/statm").Split(' ')[1];
        return long.Parse(pages, CultureInfo.InvariantCulture) * Environment.SystemPageSize;
    }

    private static IEnumerable<int[]> Permutations(int count)
    {
        if (count == 0)
        {
            yield return [];
            yield break;
        }
        foreach (var rest in Permutations(count - 1))
        {
            for (var at = 0; at < count; at++)
                yield return [.. rest[..at], count - 1, .. rest[at..]];
        }
    }
}
