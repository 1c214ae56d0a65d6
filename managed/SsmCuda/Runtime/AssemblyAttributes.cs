using System.Runtime.CompilerServices;

// Every signature of the binding is blittable; without marshalling stubs a call costs a few nanoseconds.
[assembly: DisableRuntimeMarshalling]
[assembly: CLSCompliant(false)]
// Calls have kilobytes of argument structs on the stack, which are written in full where they are used.
[module: SkipLocalsInit]
