using System.Runtime.CompilerServices;

// Every signature of the binding is blittable; without marshalling stubs a call costs a few nanoseconds.
[assembly: DisableRuntimeMarshalling]
[assembly: CLSCompliant(false)]
