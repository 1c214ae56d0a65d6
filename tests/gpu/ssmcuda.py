"""SsmCuda from Python: ctypes over ssmcuda.h, NumPy on the host, DLPack views in between.

    with ssmcuda.Context(ssmcuda.Library(path), "cuda") as context:
        a, b = context.to_device(numpy_a), context.to_device(numpy_b)
        h = context.empty(numpy_a.shape, numpy_a.dtype)
        context.run("linear_recurrence", a=a, b=b, h=h, reverse=1)
        numpy_h = h.to_host()

The argument structs are read from the header, so that a new operation needs nothing here.
"""
import ctypes
import re
from pathlib import Path

import numpy as np

HEADER = Path(__file__).resolve().parents[2] / "native" / "include" / "ssmcuda" / "ssmcuda.h"
DEVICES = {"default": 0, "cpu": 1, "cuda": 2, "emulated": 12}
CPU = 1
COMBINES = {"add": 0, "mul": 1, "max": 2, "min": 3}
ACTIVATIONS = {"none": 0, "silu": 1}
MEASURES = {"legs": 0, "legt": 1, "lagt": 2, "fout": 3, "lmu": 4}
STARTS = {"zero": 0, "first": 1}
DISCRETIZATIONS = {"zoh": 0, "bilinear": 1, "euler": 2, "backward_euler": 3, "generalized_bilinear": 4, "dirac": 5, "async": 6}


class SsmError(Exception):
    """A call that did not answer SSM_SUCCESS: its status and the library's sentence."""

    def __init__(self, call, status, name, sentence):
        super().__init__(f"{call}: {name}: {sentence}")
        self.status = status


# ---- DLPack ----------------------------------------------------------------------------------------------------------

class DLDevice(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", DLDevice), ("ndim", ctypes.c_int32), ("dtype", DLDataType),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


CODES = {"i": 0, "u": 1, "f": 2, "c": 5}


def data_type(dtype):
    """The DLPack type of a NumPy one; the text "bfloat16" stands for what NumPy does not have (kept in uint16)."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return DLDataType(4, 16, 1)
    dtype = np.dtype(dtype)
    return DLDataType(CODES[dtype.kind], dtype.itemsize * 8, 1)


def view(pointer, device, dtype, shape, strides):
    """A DLTensor; strides count elements."""
    sizes, steps = (ctypes.c_int64 * len(shape))(*shape), (ctypes.c_int64 * len(shape))(*strides)
    tensor = DLTensor(pointer, DLDevice(device, 0), len(shape), data_type(dtype), sizes, steps, 0)
    tensor.keep = sizes, steps
    return tensor


# ---- The header ------------------------------------------------------------------------------------------------------

class Field:
    """A tensor of an argument struct: its direction and the shapes that its comment gives, as lists of dimension names."""

    def __init__(self, comment):
        words = re.match(r"(in|out|inout) (required|optional) (\([^:]*):", comment)
        self.is_output, self.is_optional = words[1] != "in", words[2] == "optional"
        self.shapes = [shape.replace(" ", "").split(",") for shape in re.findall(r"\(([A-Z0-9+,-]+)\)", words[3])]

    def is_complex(self, rank):
        """Whether a tensor of that rank has the axis (re, im) that the conformance cases add to complex ones."""
        return rank not in (len(shape) for shape in self.shapes)

    def has_time(self):
        return any("L" in shape for shape in self.shapes)


def read_operations(header=HEADER):
    """name -> (ctypes struct, {tensor name: Field}) of every operation in the header."""
    operations = {}
    for name, body in re.findall(r"typedef struct ssm_(\w+)_args \{(.*?)\} ssm_\1_args;", Path(header).read_text(), re.S):
        members, fields = [], {}
        for comment, kind, field in re.findall(r"/\*\*(.*?)\*/\s*([^;/]*?)(\w+);", body, re.S):
            kind = kind.replace(" ", "")
            if kind == "constDLTensor*":
                members.append((field, ctypes.POINTER(DLTensor)))
                fields[field] = Field(" ".join(comment.split()))
            else:
                members.append((field, {"uint32_t": ctypes.c_uint32, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64,
                                        "float": ctypes.c_float, "double": ctypes.c_double}[kind]))
        operations[name] = type(name, (ctypes.Structure,), {"_fields_": members}), fields
    return operations


# ---- The library -----------------------------------------------------------------------------------------------------

class Library:
    def __init__(self, path, backends=()):
        """Loads libssmcuda, and backend libraries that do not lie beside it."""
        self.native = ctypes.CDLL(str(Path(path).resolve()))
        for name in ("ssm_last_error", "ssm_status_name", "ssm_version", "ssm_backend_log"):
            getattr(self.native, name).restype = ctypes.c_char_p
        self.operations = read_operations()
        for backend in backends:
            self.call("ssm_backend_load", str(Path(backend).resolve()).encode())

    def call(self, name, *arguments):
        status = getattr(self.native, name)(*arguments)
        if status != 0:
            raise SsmError(name, status, self.native.ssm_status_name(status).decode(), self.native.ssm_last_error().decode())

    @property
    def version(self):
        return self.native.ssm_version().decode()

    @property
    def backend_log(self):
        return self.native.ssm_backend_log().decode()

    def layout(self, name):
        value = ctypes.c_int64()
        self.call("ssm_layout", name.encode(), ctypes.byref(value))
        return value.value


class Context:
    def __init__(self, library, device="default", device_id=0):
        self.library, self.handle = library, ctypes.c_void_p()
        library.call("ssm_context_create", DEVICES[device], device_id, ctypes.byref(self.handle))
        device_type, number = ctypes.c_int32(), ctypes.c_int32()
        self.call("ssm_context_get_device", ctypes.byref(device_type), ctypes.byref(number))
        self.device = device_type.value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.library.call("ssm_context_destroy", self.handle)
        self.handle = None

    def call(self, name, *arguments):
        self.library.call(name, self.handle, *arguments)

    def synchronize(self):
        self.call("ssm_context_synchronize")

    def set_option(self, name, value):
        self.call("ssm_context_set_option", name.encode(), ctypes.c_int64(value))

    def empty(self, shape, dtype, channels_last=False):
        """Device memory with 0xff in every byte (NaN, or -1), so that what an operation leaves unwritten shows."""
        return Tensor(self, shape, dtype, channels_last)

    def to_device(self, array, channels_last=False, dtype=None):
        tensor = Tensor(self, array.shape, dtype or array.dtype, channels_last)
        tensor.assign(array)
        return tensor

    def run(self, operation, **arguments):
        """Runs an operation; tensors by the names of the header, everything else a number."""
        struct, fields = self.library.operations[operation]
        args = struct(struct_size=ctypes.sizeof(struct))
        for name, value in arguments.items():
            if value is not None:
                setattr(args, name, ctypes.pointer(value.view) if name in fields else value)
        self.call(f"ssm_{operation}", ctypes.byref(args))


class Tensor:
    """Memory on a context's device. channels_last: the second-last index is the contiguous one instead of the last."""

    def __init__(self, context, shape, dtype, channels_last=False):
        self.context, self.shape, self.dtype = context, tuple(shape), dtype
        self.host_dtype = np.dtype(np.uint16) if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype)
        order = list(range(len(self.shape)))
        if channels_last and len(order) > 1:
            order[-1], order[-2] = order[-2], order[-1]
        strides, step = [0] * len(order), 1
        for axis in reversed(order):
            strides[axis], step = step, step * self.shape[axis]
        self.bytes = step * self.host_dtype.itemsize
        self.pointer = ctypes.c_void_p()
        context.call("ssm_allocate", ctypes.c_uint64(self.bytes), ctypes.byref(self.pointer))
        self.view = view(self.pointer, context.device, dtype, self.shape, strides)
        everything = view(self.pointer, context.device, np.uint8, [self.bytes], [1])
        context.call("ssm_set", ctypes.byref(everything), 0xff)

    def __del__(self):
        if getattr(self, "pointer", None) and self.context.handle:
            self.context.call("ssm_free", self.pointer)

    def host_view(self, array):
        return view(array.ctypes.data, CPU, self.dtype, array.shape, [step // array.itemsize for step in array.strides])

    def assign(self, array):
        array = np.ascontiguousarray(array, self.host_dtype).reshape(self.shape)
        self.context.call("ssm_copy", ctypes.byref(self.host_view(array)), ctypes.byref(self.view))
        self.context.synchronize()

    def to_host(self):
        array = np.empty(self.shape, self.host_dtype)
        self.context.call("ssm_copy", ctypes.byref(self.view), ctypes.byref(self.host_view(array)))
        self.context.synchronize()
        return array
