using SsmCuda.Interop;

namespace SsmCuda.Tests.Runtime;

internal sealed class SsmContextTests
{
    [Test]
    public void A_device_says_what_it_is([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType type)
    {
        var device = SsmDevice.Get(type);
        Assert.Multiple(() =>
        {
            Assert.That(device.Type, Is.EqualTo(type));
            Assert.That(device.Id, Is.Zero);
            Assert.That(device.Name, Is.Not.Empty);
            Assert.That(device.Multiprocessors, Is.Positive);
            Assert.That(device.TotalMemory, Is.Positive);
            Assert.That(device.InstructionSets, type == SsmDeviceType.Cpu ? Is.Not.Empty : Is.Empty);
            Assert.That(SsmDevice.All.Select(d => d.ToString()), Does.Contain(device.ToString()));
        });
        using var context = SsmContext.Create(device);
        Assert.That(context.Device.Name, Is.EqualTo(device.Name));
    }

    [Test]
    public void Default_is_the_best_device_and_never_the_emulated_one()
    {
        using var context = SsmContext.Create();
        Assert.That(context.Device.Type,
            Is.EqualTo(Devices.All.Contains(SsmDeviceType.Cuda) ? SsmDeviceType.Cuda : SsmDeviceType.Cpu));
    }

    [Test]
    public void An_absent_device_is_an_error_that_says_why()
    {
        Assume.That(Devices.All, Does.Not.Contain(SsmDeviceType.Cuda));
        var error = Assert.Throws<SsmBackendException>(() => SsmContext.Create(SsmDeviceType.Cuda));
        Assert.That(error.Status, Is.AnyOf(SsmStatus.DriverMissing, SsmStatus.NoDevice, SsmStatus.LibraryNotFound,
            SsmStatus.NoKernelImage));
        Assert.That(error.Message, Is.Not.Empty);
        Assert.That(SsmDevice.BackendLog, Does.Contain("cuda"));
        Assert.That(SsmDevice.Enumerate(SsmDeviceType.Cuda), Is.Empty);
    }

    [Test]
    public void Numbers_of_devices_that_do_not_exist_are_errors()
    {
        Assert.Throws<SsmBackendException>(() => SsmContext.Create(SsmDeviceType.Cpu, 7));
        Assert.Throws<SsmBackendException>(() => SsmDevice.Get(SsmDeviceType.Cpu, 7));
        Assert.Throws<SsmArgumentException>(() => SsmContext.Create((SsmDeviceType)99));
        var error = Assert.Throws<SsmBackendException>(() => SsmLibrary.LoadBackend("/nowhere/libssmcuda_cuda.so"));
        Assert.That(error.Message, Does.Contain("/nowhere/libssmcuda_cuda.so"));
    }

    [Test]
    public void The_library_tells_its_versions()
    {
        Assert.That(SsmLibrary.AbiVersion, Is.EqualTo(NativeMethods.ExpectedAbiVersion));
        Assert.That(SsmLibrary.Version, Does.Match(@"^\d+\.\d+\.\d+"));
    }

    [Test]
    public void Every_status_has_its_exception()
    {
        foreach (var status in Enum.GetValues<SsmStatus>().Where(s => s != SsmStatus.Success))
        {
            var error = SsmException.Create(status, "sentence");
            Assert.That(error.Status, Is.EqualTo(status));
            Assert.That(error.Message, Is.EqualTo("sentence"));
            Assert.That(error.GetType() != typeof(SsmException), Is.EqualTo(status != SsmStatus.Internal), status.ToString());
        }
    }

    [Test]
    public void Errors_carry_the_native_sentence([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var a = context.Allocate<float>(2, 3, 4);
        using var b = context.Allocate<float>(2, 3, 5);
        using var wrongType = context.Allocate<double>(2, 3, 4);
        using var h = context.Allocate<float>(2, 3, 4);
        var error = Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, b, h));
        Assert.That(error.Message, Does.StartWith("b: ").And.Contains("(2,3,4)").And.Contains("(2,3,5)"));
        error = Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, wrongType, h));
        Assert.That(error.Message, Does.StartWith("b: ").And.Contains("float32").And.Contains("float64"));
        error = Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, default, h));
        Assert.That(error.Message, Does.StartWith("b: "));
        error = Assert.Throws<SsmArgumentException>(() => context.SetOption("no.such.option", 1));
        Assert.That(error.Message, Does.StartWith("name: "));
        Assert.Throws<SsmArgumentException>(() => context.SetThreads(-1));
        Assert.Throws<SsmInvalidStateException>(() => context.EndCapture().Dispose());
        // The context goes on.
        context.LinearRecurrence(a, a, h);
        context.Synchronize();
    }

    /// <summary>On the CPU without asking.</summary>
    [Test]
    public void Checking_finds_wrong_values([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        context.SetChecking(true);
        using var one = context.ToDevice<float>([1, 1, 1, 1, 1, 1], 1, 3, 2);
        using var state = context.ToDevice<float>([1, 2, 3], 3, 1, 1);
        using var x = context.ToDevice<float>([1, 1], 2, 1);
        using var b = context.ToDevice<float>([1, 1], 2, 1, 1);
        using var rate = context.ToDevice<float>([-1], 1, 1);
        using var bad = context.ToDevice<float>([-1, -1, float.NaN], 3, 1);
        using var rates = context.ToDevice<float>([-1, -1, -1], 3, 1);
        using var slots = context.ToDevice<int>([0, 3], 2);
        using var shared = context.ToDevice<int>([2, 2], 2);
        using var bounds = context.ToDevice<long>([0, 3, 2], 3);
        using var states = context.ToDevice<float>([1, 1], 1, 1, 1, 2);
        using var y = context.ToDevice<float>([5, 5], 2, 1);
        using var z = context.ToDevice<float>([5, 5, 5, 5, 5, 5], 1, 3, 2);

        var error = Assert.Throws<SsmArgumentException>(
            () => context.SelectiveStateUpdate(state, x, x, rate, b, b, y, new() { Slots = slots }));
        Assert.That(error.Message, Is.EqualTo("slots[1]: -1 or a row of the 3 of state expected, 3 given"));
        error = Assert.Throws<SsmArgumentException>(
            () => context.SelectiveStateUpdate(state, x, x, rate, b, b, y, new() { Slots = shared }));
        Assert.That(error.Message, Is.EqualTo("slots[1]: a row that no element before it has expected, 2 given"));
        error = Assert.Throws<SsmArgumentException>(() => context.SelectiveScan(one, one, bad, states, states, z));
        Assert.That(error.Message, Is.EqualTo("a[2,0]: a finite number expected, nan given"));
        error = Assert.Throws<SsmArgumentException>(
            () => context.SelectiveScan(one, one, rates, states, states, z, new() { CuSeqlens = bounds }));
        Assert.That(error.Message, Is.EqualTo("cu_seqlens[2]: at least 3 expected, 2 given"));
        Assert.That(state.ToArray(), Is.EqualTo(new float[] { 1, 2, 3 }));
        Assert.That(y.ToArray(), Is.All.EqualTo(5));
        Assert.That(z.ToArray(), Is.All.EqualTo(5));
    }

    [Test]
    public void Overlap_of_an_output_is_an_error([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var storage = context.Allocate<float>(1, 1, 20);
        using var a = context.Allocate<float>(1, 1, 10);
        using var b = storage.Slice(2, 0, 10);
        using var h = storage.Slice(2, 5, 10);
        Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, b, h));
    }

    [Test]
    public void Too_much_memory_is_an_error_and_the_context_goes_on(
        [ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        Assert.Throws<SsmOutOfMemoryException>(() => context.Allocate<double>(1 << 20, 1 << 30));
        using var small = context.Allocate<double>(10);
        small.Clear();
        Assert.That(small.ToArray(), Is.All.Zero);
    }

    [Test]
    public void Host_memory_on_another_device_is_an_error([ValueSource(typeof(Devices), nameof(Devices.Separate))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var a = new float[8];
        var error = Assert.Throws<InvalidOperationException>(() => context.LinearRecurrence(a, a, a, 1, 1, 8));
        Assert.That(error.Message, Does.StartWith("a: ").And.Contains(context.Device.ToString()));
        using var pinned = new PinnedBuffer<float>(context, 8);
        Assert.Throws<SsmArgumentException>(() =>
            context.LinearRecurrence(pinned.View(1, 1, 8), pinned.View(1, 1, 8), pinned.View(1, 1, 8)));
    }

    [Test]
    public void Tensors_of_another_device_are_an_error([ValueSource(typeof(Devices), nameof(Devices.Separate))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var cpu = SsmContext.Create(SsmDeviceType.Cpu);
        using var a = cpu.Allocate<float>(1, 1, 8);
        var error = Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, a, a));
        Assert.That(error.Message, Does.StartWith("a: "));
    }

    [Test]
    public void After_Dispose_everything_says_so()
    {
        var context = SsmContext.Create(SsmDeviceType.Cpu);
        var tensor = context.Allocate<float>(1, 1, 4);
        var mark = context.CreateEvent();
        var pinned = new PinnedBuffer<float>(context, 4);
        var graph = context.Capture(() => { });
        var stream = context.CreateStream();
        context.Dispose();
        context.Dispose();
        Assert.Throws<ObjectDisposedException>(() => context.LinearRecurrence(tensor, tensor, tensor));
        Assert.Throws<ObjectDisposedException>(() => tensor.ToArray());
        Assert.Throws<ObjectDisposedException>(() => mark.Record());
        Assert.Throws<ObjectDisposedException>(() => graph.Launch());
        Assert.Throws<ObjectDisposedException>(() => context.Allocate<float>(1));
        Assert.Throws<ObjectDisposedException>(() => context.CompletionAsync());
        Assert.Throws<ObjectDisposedException>(context.Synchronize);
        Assert.Throws<ObjectDisposedException>(() => _ = new PinnedBuffer<float>(context, 1));
        using var other = SsmContext.Create(SsmDeviceType.Cpu);
        foreach (var item in (IDisposable[])[tensor, mark, pinned, graph, stream])
        {
            item.Dispose();
            item.Dispose();
        }
        Assert.Throws<ObjectDisposedException>(() => other.LinearRecurrence(tensor, tensor, tensor));
        Assert.Throws<ObjectDisposedException>(() => _ = tensor.Pointer);
        Assert.Throws<ObjectDisposedException>(() => _ = pinned.Pointer);
        Assert.Throws<ObjectDisposedException>(() => _ = mark.IsCompleted);
        Assert.Throws<ObjectDisposedException>(() => other.Wait(mark));
        Assert.Throws<ObjectDisposedException>(() => _ = stream.Stream);
        Assert.Throws<ObjectDisposedException>(() => tensor.Slice(0, 0, 1));
    }

    [Test]
    public void A_second_thread_gets_an_exception()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        context.Handle.Enter(); // as a call on another thread would
        Assert.Throws<InvalidOperationException>(context.Synchronize);
        context.Handle.Exit();
        context.Synchronize();
        // A call that failed has left too.
        using var a = context.Allocate<float>(1, 1, 4);
        Assert.Throws<SsmArgumentException>(() => context.LinearRecurrence(a, default, a));
        context.Synchronize();
    }

    [Test]
    public async Task Completion_is_awaitable([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        Task completion;
        using (var context = SsmContext.Create(device))
        {
            using var a = context.Allocate<float>(4, 8, 1000);
            a.Clear();
            context.LinearRecurrence(a, a, a);
            await context.CompletionAsync();
            Assert.That(a.ToArray(), Is.All.Zero);
            completion = Task.WhenAll(Enumerable.Range(0, 100).Select(_ => context.CompletionAsync()));
        }
        await completion; // the context is disposed
    }

    [Test]
    public void Threads_options_and_streams_are_set([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var a = context.ToDevice<float>([1, 2, 3, 4], 1, 1, 4);
        using var h = context.Allocate<float>(1, 1, 4);
        context.SetThreads(1);
        var own = context.Stream;
        using (var stream = context.CreateStream())
        {
            context.UseStream(stream);
            Assert.That(context.Stream, Is.EqualTo(stream.Stream));
            context.AssociativeScan(SsmCombine.Add, a, h);
        }
        Assert.That(context.Stream, Is.EqualTo(own), "a disposed stream is not used any more");
        using (var stream = context.CreateStream())
        {
            context.Stream = CudaStream.FromHandle(stream.Stream.Handle);
            context.AssociativeScan(SsmCombine.Add, a, h);
            context.Stream = CudaStream.Own;
        }
        Assert.That(h.ToArray(), Is.EqualTo((float[])[1, 3, 6, 10]));
    }
}
