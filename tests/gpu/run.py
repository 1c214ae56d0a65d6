#!/usr/bin/env python3
"""Runs the operations on a device from Python and checks them against NumPy in double precision.

usage: run.py --library FILE --device cpu|cuda|emulated [--backend FILE] [--cases FOLDER] [--operation NAME]
              [--large | --small] [--json FILE]

  --cases   also every conformance case below that folder (<operation>/<name>.safetensors), in float32 and float64, with
            time contiguous and with channels contiguous, twice, where both results must be the same to the last bit
  --large   also shapes that fill a GPU, each step checked from the one before it
  --small   a handful of calls that reach every operation: for compute-sanitizer, which slows them down a hundredfold

Ends with `N passed, N failed`.
"""
import argparse
import json
import struct
import sys
import time
from pathlib import Path

import numpy as np

import ssmcuda


# ---- Counting --------------------------------------------------------------------------------------------------------

class Results:
    def __init__(self, device):
        self.device, self.rows = device, []

    def add(self, operation, case, error, tolerance, note=""):
        """error and tolerance: the larger of the norms of README.md, as a share of what they may be, and what they may be."""
        passed = bool(error <= tolerance)
        self.rows.append(dict(operation=operation, case=case, device=self.device, passed=passed,
                              error=float(error) if np.isfinite(error) else None, tolerance=tolerance))
        if not passed:
            print(f"FAILED {operation} {case}: error {error:.3g}, tolerance {tolerance:.3g} {note}", flush=True)

    def attempt(self, operation, case, body):
        """A check that may throw."""
        try:
            body()
        except Exception as problem:  # counted, and the next case goes on
            self.add(operation, case, np.inf, 0.0, f"{type(problem).__name__}: {problem}")

    def close(self):
        print(f"{'operation':<28} {'passed':>6} {'failed':>6}  worst error over tolerance")
        for operation in dict.fromkeys(row["operation"] for row in self.rows):
            rows = [row for row in self.rows if row["operation"] == operation]
            worst = max((row["error"] / row["tolerance"] for row in rows if row["error"] is not None and row["tolerance"]),
                        default=0.0)
            good = sum(row["passed"] for row in rows)
            print(f"{operation:<28} {good:>6} {len(rows) - good:>6}  {worst:.3f}")
        passed = sum(row["passed"] for row in self.rows)
        print(f"{passed} passed, {len(self.rows) - passed} failed")
        return 0 if self.rows and passed == len(self.rows) else 1


def error_of(given, expected):
    """The larger of ||y - r|| / ||r|| and a tenth of max|y - r| / max|r|, which both may be the tolerance."""
    given, expected = np.asarray(given).astype(np.complex128).ravel(), np.asarray(expected).astype(np.complex128).ravel()
    if given.size == 0:
        return 0.0
    if not np.isfinite(given).all():
        return np.inf
    difference = given - expected
    # Over real and imaginary parts alike, as the reference is stored.
    largest = lambda x: max(np.abs(x.real).max(), np.abs(x.imag).max())
    norm, peak = np.linalg.norm(expected), largest(expected)
    if norm == 0:
        return 0.0 if not difference.any() else np.inf
    return max(np.linalg.norm(difference) / norm, largest(difference) / (10 * peak))


# ---- Conformance cases -------------------------------------------------------------------------------------------------

def read_safetensors(path):
    """The tensors of a file by name, and its metadata."""
    data = Path(path).read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    types = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + size + begin:8 + size + end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def run_case(context, results, path, dtype, channels_last):
    tensors, metadata = read_safetensors(path)
    operation, params = metadata["op"], json.loads(metadata["params"])
    tolerance = 1e-9 if dtype == np.float64 else float(metadata["tolerance"])
    _, fields = context.library.operations[operation]
    arguments, outputs, updated = {}, {}, {}  # updated: inputs that the operation overwrites
    for name, array in tensors.items():
        direction, name = name.split(".", 1)
        field = fields[name]
        if field.is_complex(array.ndim):
            array = np.ascontiguousarray(array).view(np.complex64 if array.dtype == np.float32 else np.complex128)[..., 0]
        working = array.dtype if array.dtype.kind == "i" else \
            np.result_type(dtype, np.complex64) if array.dtype.kind == "c" else np.dtype(dtype)
        last = channels_last and field.has_time()
        if direction == "out":
            outputs[name] = array
        if direction == "in":
            arguments[name] = context.to_device(array.astype(working), last)
            if f"out.{name}" in tensors:
                updated[name] = array.astype(working)
        elif f"in.{name}" not in tensors:
            arguments[name] = context.empty(array.shape, working, last)
    members = {name for name, _ in context.library.operations[operation][0]._fields_}
    for name, value in params.items():
        if name in members:
            words = {"combine": ssmcuda.COMBINES, "activation": ssmcuda.ACTIVATIONS,
                     "discretization": ssmcuda.DISCRETIZATIONS}.get(name)
            arguments[name] = words[value] if words else int(value)
    context.run(operation, **arguments)
    first = {name: arguments[name].to_host() for name in outputs}
    arguments.update((name, context.to_device(array)) for name, array in updated.items())
    context.run(operation, **arguments)
    label = f"{Path(path).stem} {np.dtype(dtype).name} {'channels' if channels_last else 'time'}"
    worst = max((error_of(first[name], expected) for name, expected in outputs.items()), default=np.inf)
    results.add(operation, label, worst, tolerance)
    same = all(first[name].tobytes() == arguments[name].to_host().tobytes() for name in outputs)
    results.add(operation, label + ", again", 0.0 if same else np.inf, tolerance, "a second run differs")


def run_cases(context, results, folder, only):
    if not any(Path(folder).glob("*/*.safetensors")):
        results.add(only or "any", "cases", np.inf, 0.0, f"no cases below {folder}")
    for operation in context.library.operations:
        if only and operation != only:
            continue
        paths = sorted((Path(folder) / operation).glob("*.safetensors"))
        if not paths:
            print(f"{operation}: no cases below {folder}", flush=True)
        for path in paths:
            for dtype in (np.float32, np.float64):
                for channels_last in (False, True):
                    results.attempt(operation, path.stem, lambda: run_case(context, results, path, dtype, channels_last))


# ---- References: loops over time in double precision ------------------------------------------------------------------

def recurrence(a, b, initial, reverse=False):
    a, b = (a[..., ::-1], b[..., ::-1]) if reverse else (a, b)
    h, state = np.empty_like(b), initial
    for t in range(b.shape[-1]):
        state = a[..., t] * state + b[..., t]
        h[..., t] = state
    return h[..., ::-1] if reverse else h, state


def recurrence_backward(a, h, initial, grad_h, grad_last):
    """Forward direction; g_t = grad_h_t + conj(a_{t+1}) g_{t+1}."""
    g = np.empty_like(grad_h)
    carry = grad_last
    for t in reversed(range(a.shape[-1])):
        g[..., t] = grad_h[..., t] + carry
        carry = np.conj(a[..., t]) * g[..., t]
    before = np.concatenate([initial[..., None], h[..., :-1]], -1)
    return g * np.conj(before), g, carry


def selective(u, dt, a, b, c, d, z, dt_bias, initial):
    """With softplus; b and c (B,G,N,L)."""
    s = np.logaddexp(0, dt + dt_bias[:, None])
    groups = np.arange(u.shape[1]) // (u.shape[1] // b.shape[1])
    b, c = b[:, groups], c[:, groups]
    state, y = initial, np.empty_like(u)
    for t in range(u.shape[2]):
        state = np.exp(s[:, :, t, None] * a) * state + (s * u)[:, :, t, None] * b[..., t]
        y[:, :, t] = (state * c[..., t]).sum(-1)
    return (y + d[:, None] * u) * z / (1 + np.exp(-z)), state


def selective_backward(u, dt, a, b, c, d, z, dt_bias, initial, grad_y, grad_last):
    """Gradients of the same, by the names of the inputs."""
    s = np.logaddexp(0, dt + dt_bias[:, None])
    per_group, length = u.shape[1] // b.shape[1], u.shape[2]
    groups = np.arange(u.shape[1]) // per_group
    wide_b, wide_c = b[:, groups], c[:, groups]
    decay = np.exp(s[:, :, None] * a[..., None])
    h = np.empty((*decay.shape[:3], length + 1))
    h[..., 0] = initial
    for t in range(length):
        h[..., t + 1] = decay[..., t] * h[..., t] + (s * u)[:, :, t, None] * wide_b[..., t]
    sigmoid = 1 / (1 + np.exp(-z))
    gy = grad_y * z * sigmoid
    y = (h[..., 1:] * wide_c).sum(2) + d[:, None] * u
    g, carry = np.empty(decay.shape), grad_last
    for t in reversed(range(length)):
        g[..., t] = gy[:, :, t, None] * wide_c[..., t] + carry
        carry = decay[..., t] * g[..., t]
    of_input, w = (g * wide_b).sum(2), g * decay * h[..., :-1]
    grad_dt = (u * of_input + (w * a[..., None]).sum(2)) * -np.expm1(-s)
    over_channels = lambda x: x.reshape(x.shape[0], b.shape[1], per_group, *x.shape[2:]).sum(2)
    return dict(grad_u=s * of_input + gy * d[:, None], grad_dt=grad_dt, grad_a=(s[:, :, None] * w).sum((0, 3)),
                grad_b=over_channels((s * u)[:, :, None] * g), grad_c=over_channels(gy[:, :, None] * h[..., 1:]),
                grad_d=(gy * u).sum((0, 2)), grad_z=grad_y * y * sigmoid * (1 + z * (1 - sigmoid)),
                grad_dt_bias=grad_dt.sum((0, 2)), grad_initial_state=carry)


def duality(x, dt, a, b, c, d, z, dt_bias, initial, ids):
    """ssd with softplus: x, z (B,L,H,P), dt (B,L,H), b, c (B,L,G,N), ids (B,L); y, last_state and everything in between."""
    s = np.logaddexp(0, dt + dt_bias)
    groups = np.arange(x.shape[2]) // (x.shape[2] // b.shape[2])
    b, c = b[:, :, groups], c[:, :, groups]
    state, y = initial, np.empty_like(x)
    for t in range(x.shape[1]):
        if t:
            state = state * (ids[:, t] == ids[:, t - 1])[:, None, None, None]
        state = np.exp(s[:, t] * a)[..., None, None] * state + (s[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None]
        y[:, t] = (state * c[:, t, :, None]).sum(-1)
    return (y + d[:, None] * x) * z / (1 + np.exp(-z)), state


def duality_backward(x, dt, a, b, c, d, z, dt_bias, initial, ids, grad_y, grad_last):
    """The gradients of duality by the names of the operation's outputs."""
    batch, length, heads, channels = x.shape
    s, gate = np.logaddexp(0, dt + dt_bias), 1 / (1 + np.exp(-z))
    groups = np.arange(heads) // (heads // b.shape[2])
    wide_b, wide_c = b[:, :, groups], c[:, :, groups]
    decays = np.exp(s * a)
    decays[:, 1:][ids[:, 1:] != ids[:, :-1]] = 0
    states = [initial]
    for t in range(length):
        states.append(decays[:, t, :, None, None] * states[-1]
                      + (s[:, t, :, None] * x[:, t])[..., None] * wide_b[:, t, :, None])
    y = np.stack([(states[t + 1] * wide_c[:, t, :, None]).sum(-1) for t in range(length)], 1) + d[:, None] * x
    g = grad_y * z * gate
    result = dict(grad_x=d[:, None] * g, grad_z=grad_y * y * gate * (1 + z * (1 - gate)), grad_d=(g * x).sum((0, 1, 3)))
    grad_b, grad_c, grad_s, through = np.zeros_like(wide_b), np.zeros_like(wide_c), np.zeros_like(s), np.zeros_like(s)
    behind = grad_last
    for t in reversed(range(length)):
        behind = behind + g[:, t, :, :, None] * wide_c[:, t, :, None]
        of_input = (behind * wide_b[:, t, :, None]).sum(-1)
        result["grad_x"][:, t] += s[:, t, :, None] * of_input
        grad_c[:, t] = (g[:, t, :, :, None] * states[t + 1]).sum(2)
        grad_b[:, t] = s[:, t, :, None] * (behind * x[:, t, :, :, None]).sum(2)
        through[:, t] = decays[:, t] * (behind * states[t]).sum((2, 3))
        grad_s[:, t] = (x[:, t] * of_input).sum(-1) + a * through[:, t]
        behind = decays[:, t, :, None, None] * behind
    grad_dt = grad_s / (1 + np.exp(-(dt + dt_bias)))
    per_group = lambda array: array.reshape(batch, length, b.shape[2], -1, b.shape[3]).sum(3)
    return dict(result, grad_b=per_group(grad_b), grad_c=per_group(grad_c), grad_dt=grad_dt, grad_a=(s * through).sum((0, 1)),
                grad_dt_bias=grad_dt.sum((0, 1)), grad_initial_state=behind)


def turned(rows, theta):
    """Neighbours (2 i, 2 i + 1) of the last axis turned by theta_i, from the first on."""
    result, many = rows.copy(), 2 * theta.shape[-1]
    u, v = rows[..., 0:many:2], rows[..., 1:many:2]
    result[..., 0:many:2] = u * np.cos(theta) - v * np.sin(theta)
    result[..., 1:many:2] = u * np.sin(theta) + v * np.cos(theta)
    return result


def mamba3(x, dt, a, b, c, trap, angles, b_bias, c_bias, d, z, dt_bias, initial_state, initial_angle, initial_b, initial_x):
    """mamba3 with softplus, a (B,L,H); y and the last states."""
    s, rest = np.logaddexp(0, dt + dt_bias), 1 / (1 + np.exp(trap))
    groups, turning = (np.arange(x.shape[2]) // (x.shape[2] // array.shape[2]) for array in (b, angles))
    h, theta, before_k, before_x, y = initial_state, initial_angle, initial_b, initial_x, np.empty_like(x)
    outer = lambda factor, left, right: factor[..., None, None] * left[..., None] * right[:, :, None]
    for t in range(x.shape[1]):
        theta = theta + np.pi * np.tanh(angles[:, t, turning]) * s[:, t, :, None]
        k, q = turned(b[:, t, groups] + b_bias, theta), turned(c[:, t, groups] + c_bias, theta)
        h = (np.exp(s[:, t] * a[:, t])[..., None, None] * (h + outer(rest[:, t] * s[:, t], before_x, before_k))
             + outer((1 - rest[:, t]) * s[:, t], x[:, t], k))
        y[:, t] = (h * q[:, :, None]).sum(-1)
        before_k, before_x = k, x[:, t]
    return dict(y=(y + d[:, None] * x) * z / (1 + np.exp(-z)), last_state=h,
                last_angle=theta - 2 * np.pi * np.round(theta / (2 * np.pi)), last_b=before_k, last_x=before_x)


# ---- Checks that need no files -----------------------------------------------------------------------------------------

TOLERANCES = {"float32": 5e-6, "complex64": 5e-6, "float64": 1e-12, "complex128": 1e-12, "float16": 2e-3}


def randoms(seed, dtype):
    """Random numbers of a type: uniform(shape, low, high), in magnitude where complex."""
    generator = np.random.default_rng(seed)

    def uniform(shape, low=-1.0, high=1.0):
        values = generator.uniform(low, high, shape)
        if np.dtype(dtype).kind == "c":
            values = values * np.exp(1j * generator.uniform(-np.pi, np.pi, shape))
        return values.astype(dtype)
    return uniform


def widened(*arrays):
    return [array.astype(np.result_type(array.dtype, np.float64)) for array in arrays]


def state_type(dtype):
    return np.dtype(np.float32) if np.dtype(dtype) == np.float16 else np.dtype(dtype)


def check_linear_recurrence(context, results, dtype, shape, reverse, channels_last):
    uniform = randoms(1, dtype)
    a, b = uniform(shape, 0.3, 0.99), uniform(shape)
    initial = randoms(2, state_type(dtype))(shape[:2])
    h, last = recurrence(*widened(a, b, initial), reverse)
    tolerance = TOLERANCES[np.dtype(dtype).name]
    device = {name: context.to_device(array, channels_last) for name, array in dict(a=a, b=b).items()}
    state = context.to_device(initial)
    out, out_last = context.empty(shape, dtype, channels_last), context.empty(shape[:2], state_type(dtype))
    context.run("linear_recurrence", **device, initial_state=state, h=out, last_state=out_last, reverse=int(reverse))
    label = f"{np.dtype(dtype).name} {shape} {'reverse' if reverse else 'forward'} {'channels' if channels_last else 'time'}"
    results.add("linear_recurrence", label, max(error_of(out.to_host(), h), error_of(out_last.to_host(), last)), tolerance)

    # Split in two, the state carried over, it is the same sequence.
    if shape[2] > 1 and not reverse:
        middle, carried = shape[2] // 3 + 1, state
        parts = []
        for start, end in ((0, middle), (middle, shape[2])):
            part, after = context.empty((*shape[:2], end - start), dtype), context.empty(shape[:2], state_type(dtype))
            context.run("linear_recurrence", a=context.to_device(a[..., start:end]), b=context.to_device(b[..., start:end]),
                        initial_state=carried, h=part, last_state=after)
            parts.append(part.to_host())
            carried = after
        error = max(error_of(np.concatenate(parts, -1), h), error_of(carried.to_host(), last))
        results.add("linear_recurrence", label + ", split", error, tolerance)

    # Gradients, from the h just computed in double precision and rounded.
    grad_h, grad_last = uniform(shape), randoms(3, state_type(dtype))(shape[:2])
    given = h.astype(dtype)
    flip = (lambda x: x[..., ::-1]) if reverse else (lambda x: x)
    wide = widened(flip(a), flip(given), initial, flip(grad_h), grad_last)
    grad_a, grad_b, grad_initial = recurrence_backward(*wide)
    outputs = dict(grad_a=context.empty(shape, dtype, channels_last), grad_b=context.empty(shape, dtype, channels_last),
                   grad_initial_state=context.empty(shape[:2], state_type(dtype)))
    context.run("linear_recurrence_backward", a=device["a"], h=context.to_device(given, channels_last), initial_state=state,
                grad_h=context.to_device(grad_h, channels_last), grad_last_state=context.to_device(grad_last),
                reverse=int(reverse), **outputs)
    expected = dict(grad_a=flip(grad_a), grad_b=flip(grad_b), grad_initial_state=grad_initial)
    worst = max(error_of(outputs[name].to_host(), expected[name]) for name in expected)
    results.add("linear_recurrence_backward", label, worst, tolerance)


def check_packed(context, results, dtype):
    """A packed batch is its sequences, one by one; one of them is empty."""
    bounds = np.array([0, 5, 5, 70, 71, 400], np.int64)
    uniform, channels = randoms(5, dtype), 3
    a, b = uniform((1, channels, 400), 0.3, 0.99), uniform((1, channels, 400))
    initial = uniform((5, channels))
    out, last = context.empty(a.shape, dtype), context.empty(initial.shape, dtype)
    context.run("linear_recurrence", a=context.to_device(a), b=context.to_device(b), initial_state=context.to_device(initial),
                cu_seqlens=context.to_device(bounds), h=out, last_state=last)
    h, last, error = out.to_host(), last.to_host(), 0.0
    for s in range(5):
        part = slice(bounds[s], bounds[s + 1])
        expected, state = recurrence(*widened(a[0, :, part], b[0, :, part], initial[s]))
        error = max(error, error_of(h[0, :, part], expected), error_of(last[s], state))
    results.add("linear_recurrence", f"{np.dtype(dtype).name} packed", error, TOLERANCES[np.dtype(dtype).name])


def check_associative_scan(context, results, dtype, shape, channels_last):
    for combine in ("add", "mul", "max", "min"):
        for reverse in (False, True):
            for exclusive in (False, True) if combine in ("add", "mul") else (False,):
                x = randoms(7, dtype)(shape, *((0.95, 1.05) if combine == "mul" else (-1, 1)))
                wide = widened(x[..., ::-1] if reverse else x)[0]
                accumulate = dict(add=np.add, mul=np.multiply, max=np.maximum, min=np.minimum)[combine].accumulate
                y = accumulate(wide, axis=-1)
                if exclusive:
                    y = np.concatenate([np.full_like(y[..., :1], combine == "mul"), y[..., :-1]], -1)
                y = y[..., ::-1] if reverse else y
                out = context.empty(shape, dtype, channels_last)
                context.run("associative_scan", x=context.to_device(x, channels_last), y=out, reverse=int(reverse),
                            combine=ssmcuda.COMBINES[combine], exclusive=int(exclusive))
                label = f"{np.dtype(dtype).name} {shape} {combine}{' reverse' * reverse}{' exclusive' * exclusive}"
                # A float32 sum of n numbers of either sign may cancel; its rounding grows with the partial sums' size.
                results.add("associative_scan", label, error_of(out.to_host(), y), TOLERANCES[np.dtype(dtype).name] * 4)


def check_selective_scan(context, results, dtype, batch, channels, groups, states, length):
    uniform, wide_uniform = randoms(9, dtype), randoms(10, state_type(dtype))
    sequence, per_step = (batch, channels, length), (batch, groups, states, length)
    inputs = dict(u=uniform(sequence), dt=uniform(sequence), a=wide_uniform((channels, states), -8, -0.5),
                  b=uniform(per_step), c=uniform(per_step), d=wide_uniform((channels,)), z=uniform(sequence),
                  dt_bias=wide_uniform((channels,), -4, -1), initial_state=wide_uniform((batch, channels, states)))
    y, last = selective(*widened(*inputs.values()))
    out = context.empty(sequence, dtype)
    out_last = context.empty((batch, channels, states), state_type(dtype))
    context.run("selective_scan", **{name: context.to_device(array) for name, array in inputs.items()}, y=out,
                last_state=out_last, dt_softplus=1)
    tolerance = TOLERANCES[np.dtype(dtype).name]
    label = f"{np.dtype(dtype).name} {batch}x{channels}x{length} g{groups} n{states}"
    results.add("selective_scan", label, max(error_of(out.to_host(), y), error_of(out_last.to_host(), last)), tolerance)


def check_selective_scan_backward(context, results, dtype, batch, channels, groups, states, length):
    uniform, wide_uniform = randoms(14, dtype), randoms(15, state_type(dtype))
    sequence, per_step, state = (batch, channels, length), (batch, groups, states, length), (batch, channels, states)
    inputs = dict(u=uniform(sequence), dt=uniform(sequence), a=wide_uniform((channels, states), -8, -0.5),
                  b=uniform(per_step), c=uniform(per_step), d=wide_uniform((channels,)), z=uniform(sequence),
                  dt_bias=wide_uniform((channels,), -4, -1), initial_state=wide_uniform(state), grad_y=uniform(sequence),
                  grad_last_state=wide_uniform(state))
    expected = selective_backward(*widened(*inputs.values()))
    device = {name: context.to_device(array) for name, array in inputs.items()}
    outputs = {name: context.empty(array.shape, dtype if array.shape in (sequence, per_step) else state_type(dtype))
               for name, array in expected.items()}
    context.run("selective_scan_backward", **device, **outputs, dt_softplus=1)
    first = {name: tensor.to_host() for name, tensor in outputs.items()}
    label = f"{np.dtype(dtype).name} {batch}x{channels}x{length} g{groups} n{states}"
    worst = max(error_of(first[name], array) for name, array in expected.items())
    results.add("selective_scan_backward", label, worst, TOLERANCES[np.dtype(dtype).name] * 4)
    same = True
    for _ in range(9):
        context.run("selective_scan_backward", **device, **outputs, dt_softplus=1)
        same = same and all(tensor.to_host().tobytes() == first[name].tobytes() for name, tensor in outputs.items())
    results.add("selective_scan_backward", label + ", ten runs", 0.0 if same else np.inf, 0.0, "runs differ")


def check_sequence_ids(context, results, operation, dtype, batch, channels, length):
    """seq_idx against calls on each sequence by itself; rows of long and of short sequences, padding holds NaN."""
    uniform, wide_uniform, random = randoms(17, dtype), randoms(18, state_type(dtype)), np.random.default_rng(19)
    sequence, per_step = (batch, channels, length), (batch, 2, 16, length)
    scan, backward = operation.startswith("selective_scan"), operation.endswith("_backward")
    if scan:
        inputs = dict(u=uniform(sequence), dt=uniform(sequence), a=wide_uniform((channels, 16), -8, -0.5), b=uniform(per_step),
                      c=uniform(per_step), d=wide_uniform((channels,)), z=uniform(sequence),
                      dt_bias=wide_uniform((channels,), -4, -1), initial_state=wide_uniform((batch, channels, 16)))
        settings = dict(dt_softplus=1)
    else:
        inputs = dict(x=uniform(sequence), weight=wide_uniform((channels, 4)), bias=wide_uniform((channels,)),
                      initial_state=wide_uniform((batch, channels, 3)))
        settings = dict(activation=ssmcuda.ACTIVATIONS["silu"])
    outputs = dict(y=inputs["u" if scan else "x"], last_state=inputs["initial_state"])
    if backward:
        outputs = {"grad_" + name: array for name, array in inputs.items()}
        inputs.update(grad_y=uniform(sequence), grad_last_state=wide_uniform(inputs["initial_state"].shape))
    has_time = lambda array: array.ndim > 2 and array.shape[-1] == length
    ids = np.stack([np.cumsum(random.random(length) < (0.005 if row % 2 else 0.2)) for row in range(batch)]).astype(np.int32)
    ids[:, int(0.8 * length):] = -1
    ids[random.random(ids.shape) < 0.1] = -1

    def call(inputs, outputs):
        device = {name: context.empty(array.shape, array.dtype) for name, array in outputs.items()}
        context.run(operation, **{name: context.to_device(np.ascontiguousarray(array)) for name, array in inputs.items()},
                    **device, **settings)
        return {name: tensor.to_host() for name, tensor in device.items()}

    expected = {name: np.zeros(array.shape, np.float64) for name, array in outputs.items()}
    for row in range(batch):
        steps = np.flatnonzero(ids[row] >= 0)
        sequences = np.split(steps, np.flatnonzero(np.diff(ids[row][steps])) + 1)
        for index, own in enumerate(sequences):
            def part(name, array):
                if has_time(array):
                    return array[row:row + 1][..., own]
                if "state" not in name:
                    return array
                kept = index + 1 == len(sequences) if "last" in name else index == 0
                return array[row:row + 1] * kept
            given = call({name: part(name, array) for name, array in inputs.items()},
                         {name: part(name, array) for name, array in outputs.items()})
            for name, array in given.items():
                if has_time(outputs[name]):
                    expected[name][row][..., own] = array[0]
                elif "state" not in name:
                    expected[name] += array
                elif index + 1 == len(sequences) if "last" in name else index == 0:
                    expected[name][row] = array[0]
    for name, array in inputs.items():
        if has_time(array):
            for row in range(batch):
                array[row][..., ids[row] < 0] = np.nan
    actual = call({**inputs, "seq_idx": ids}, outputs)
    label = f"{np.dtype(dtype).name} {batch}x{channels}x{length} sequence ids"
    worst = max(error_of(actual[name], array) for name, array in expected.items())
    results.add(operation, label, worst, 8 * TOLERANCES[np.dtype(dtype).name])


def check_selective_state_update(context, results, dtype, state_dtype, batch, heads, channels, groups, states, slots):
    """One step of heads that share a, dt, d and dt_bias, or where heads is 0 of channels with their own; in slots of a cache."""
    uniform, wide_uniform, state_uniform = randoms(11, dtype), randoms(12, state_type(dtype)), randoms(13, state_dtype)
    width = (heads, channels) if heads else (channels,)
    parameters, rates = width[:1], width[:1] if heads else (channels, states)
    inputs = dict(x=uniform((batch, *width)), dt=uniform((batch, *parameters)), a=wide_uniform(rates, -8, -0.5),
                  b=uniform((batch, groups, states)), c=uniform((batch, groups, states)), d=wide_uniform(parameters),
                  z=uniform((batch, *width)), dt_bias=wide_uniform(parameters, -4, -1))
    cache = state_uniform((2 * batch, *width, states))
    used = np.array([row for row in slots if row >= 0])
    wide = {name: widened(array)[0] for name, array in inputs.items()}
    if heads:  # as channels
        wide.update(a=np.repeat(wide["a"], channels)[:, None] * np.ones(states),
                    **{name: np.repeat(wide[name], channels, -1) for name in ("dt", "d", "dt_bias")})
    flat = lambda array: array.reshape(array.shape[0], -1)[..., None]
    initial = widened(cache[slots])[0].reshape(batch, -1, states)
    y, last = selective(flat(wide["x"]), flat(wide["dt"]), wide["a"], wide["b"][..., None], wide["c"][..., None],
                        wide["d"], flat(wide["z"]), wide["dt_bias"], initial)
    y[np.array(slots) < 0] = 0
    expected = widened(cache)[0]
    expected[used] = last[np.array(slots) >= 0].reshape(len(used), *width, states)
    state, out = context.to_device(cache), context.empty((batch, *width), dtype)
    context.run("selective_state_update", state=state, slots=context.to_device(np.array(slots, np.int32)), y=out,
                dt_softplus=1, **{name: context.to_device(array) for name, array in inputs.items()})
    after, label = state.to_host(), f"{np.dtype(dtype).name} state {np.dtype(state_dtype).name} {batch}x{heads}x{channels} n{states}"
    tolerance = TOLERANCES[np.dtype(dtype).name]
    results.add("selective_state_update", label, error_of(out.to_host(), y.reshape(out.to_host().shape)), tolerance)
    results.add("selective_state_update", label + ", state", error_of(after, expected), TOLERANCES[np.dtype(state_dtype).name])
    kept = np.setdiff1d(np.arange(2 * batch), used)
    same = after[kept].tobytes() == cache[kept].tobytes()
    results.add("selective_state_update", label + ", other slots", 0.0 if same else np.inf, 0.0, "a slot of nobody was written")


def check_wrong_values(context, results):
    """In checking mode values that are wrong on the device are errors, and nothing is written."""
    ones = lambda shape: context.to_device(np.ones(shape, np.float32))

    def expect(label, sentence, operation, **arguments):
        outputs = [tensor for name, tensor in arguments.items() if name in ("y", "state", "last_state")]
        before, given = [tensor.to_host().tobytes() for tensor in outputs], "success"
        try:
            context.run(operation, **arguments)
        except ssmcuda.SsmError as problem:
            given = str(problem)
        good = sentence in given and before == [tensor.to_host().tobytes() for tensor in outputs]
        results.add(operation, "wrong " + label, 0.0 if good else np.inf, 0.0, given)

    rates, bad_rates = np.full((2, 3), -1, np.float32), np.full((2, 3), -1, np.float32)
    bad_rates[1, 2] = np.nan
    token = dict(state=ones((4, 2, 3)), x=ones((2, 2)), dt=ones((2, 2)), b=ones((2, 1, 3)), c=ones((2, 1, 3)), y=ones((2, 2)))
    scan = dict(u=ones((1, 2, 5)), dt=ones((1, 2, 5)), b=ones((1, 1, 3, 5)), c=ones((1, 1, 3, 5)), y=ones((1, 2, 5)))
    context.call("ssm_context_set_checking", 1)
    try:
        for label, slots, sentence in (("slot", [0, 4], "slots[1]: -1 or a row of the 4 of state expected, 4 given"),
                                       ("slots", [2, 2], "slots[1]: a row that no element before it has expected, 2 given")):
            expect(label, sentence, "selective_state_update", a=context.to_device(rates),
                   slots=context.to_device(np.array(slots, np.int32)), **token)
        expect("a", "a[1,2]: a finite number expected, nan given", "selective_state_update",
               a=context.to_device(bad_rates), **dict(token, state=ones((2, 2, 3))))
        expect("a", "a[1,2]: a finite number expected, nan given", "selective_scan", a=context.to_device(bad_rates), **scan)
        for bounds, sentence in (([0, 4, 3, 5], "cu_seqlens[2]: at least 4 expected, 3 given"),
                                 ([0, 4, 4, 6], "cu_seqlens[3]: the length 5 expected, 6 given")):
            expect("cu_seqlens", sentence, "selective_scan", a=context.to_device(rates),
                   cu_seqlens=context.to_device(np.array(bounds, np.int64)), **scan)
    finally:
        context.call("ssm_context_set_checking", 0)


def ssd_inputs(dtype, batch, length, heads, channels, groups, states):
    uniform, wide_uniform = randoms(14, dtype), randoms(15, state_type(dtype))
    return dict(x=uniform((batch, length, heads, channels)), dt=uniform((batch, length, heads)),
                a=wide_uniform((heads,), -8, -0.1), b=uniform((batch, length, groups, states)),
                c=uniform((batch, length, groups, states)), d=wide_uniform((heads,)),
                z=uniform((batch, length, heads, channels)), dt_bias=wide_uniform((heads,), -4, -1),
                initial_state=wide_uniform((batch, heads, channels, states)),
                seq_idx=np.cumsum(np.random.default_rng(16).random((batch, length)) < 0.02, 1).astype(np.int32))


def check_ssd(context, results, dtype, batch, length, heads, channels, groups, states):
    inputs = ssd_inputs(dtype, batch, length, heads, channels, groups, states)
    y, last = duality(*widened(*inputs.values()))
    device = {name: context.to_device(array) for name, array in inputs.items()}
    # With 16-bit storage the tensor cores take factors that are rounded to it.
    tolerance = TOLERANCES[np.dtype(dtype).name] * (2 if np.dtype(dtype) == np.float16 else 4)
    for chunk in (0, 16, 256):
        out, out_last = context.empty(y.shape, dtype), context.empty(last.shape, state_type(dtype))
        context.run("ssd", **device, y=out, last_state=out_last, dt_softplus=1, chunk_size=chunk)
        label = f"{np.dtype(dtype).name} {batch}x{length}x{heads}x{channels} g{groups} n{states} chunk {chunk}"
        results.add("ssd", label, max(error_of(out.to_host(), y), error_of(out_last.to_host(), last)), tolerance)


def check_ssd_backward(context, results, dtype, batch, length, heads, channels, groups, states):
    inputs = ssd_inputs(dtype, batch, length, heads, channels, groups, states)
    inputs.update(grad_y=randoms(17, dtype)(inputs["x"].shape),
                  grad_last_state=randoms(18, state_type(dtype))(inputs["initial_state"].shape))
    expected = duality_backward(*widened(*inputs.values()))
    outputs = {name: context.empty(array.shape, dtype if array.ndim > 1 and "state" not in name else state_type(dtype))
               for name, array in expected.items()}
    context.run("ssd_backward", **{name: context.to_device(array) for name, array in inputs.items()}, **outputs, dt_softplus=1)
    tolerance = TOLERANCES[np.dtype(dtype).name] * (4 if np.dtype(dtype) == np.float16 else 10)
    label = f"{np.dtype(dtype).name} {batch}x{length}x{heads}x{channels} g{groups} n{states}"
    for name, array in expected.items():
        results.add("ssd_backward", f"{label} {name}", error_of(outputs[name].to_host(), array), tolerance)


MAMBA3_STATES = ("state", "angle", "b", "x")


def mamba3_inputs(dtype, batch, length, heads, channels, groups, states):
    uniform, wide = randoms(19, dtype), randoms(20, state_type(dtype))
    return dict(x=uniform((batch, length, heads, channels)), dt=uniform((batch, length, heads)),
                a=wide((batch, length, heads), -8, -0.1), b=uniform((batch, length, groups, states)),
                c=uniform((batch, length, groups, states)), trap=uniform((batch, length, heads), -3, 3),
                angles=uniform((batch, length, 1, states // 4), -2, 2), b_bias=wide((heads, states)),
                c_bias=wide((heads, states)), d=wide((heads,)), z=uniform((batch, length, heads, channels)),
                dt_bias=wide((heads,), -4, -1), initial_state=wide((batch, heads, channels, states)),
                initial_angle=wide((batch, heads, states // 4), -3, 3), initial_b=wide((batch, heads, states)),
                initial_x=wide((batch, heads, channels)))


def check_mamba3(context, results, dtype, batch, length, heads, channels, groups, states):
    """The sequence; and in a few steps its update."""
    inputs = mamba3_inputs(dtype, batch, length, heads, channels, groups, states)
    expected = mamba3(*widened(*inputs.values()))
    # With 16-bit storage the tensor cores take factors that are rounded to it.
    tolerance = TOLERANCES[np.dtype(dtype).name] * (3 if np.dtype(dtype) == np.float16 else 10)
    label = f"{np.dtype(dtype).name} {batch}x{length}x{heads}x{channels} g{groups} n{states}"
    device = {name: context.to_device(array) for name, array in inputs.items()}
    outputs = {name: context.empty(array.shape, dtype if name == "y" else state_type(dtype))
               for name, array in expected.items()}
    context.run("mamba3", **device, **outputs, dt_softplus=1)
    for name, array in expected.items():
        results.add("mamba3", f"{label} {name}", error_of(outputs[name].to_host(), array), tolerance)
    if length > 40:
        return
    names = {name: name if name == "state" else name + "_state" for name in MAMBA3_STATES}
    cache = {names[name]: context.to_device(inputs["initial_" + name]) for name in MAMBA3_STATES}
    out = context.empty(expected["y"].shape, dtype)
    context.run("mamba3_update", **{name: tensor for name, tensor in device.items() if "initial" not in name}, **cache, y=out,
                dt_softplus=1)
    results.add("mamba3_update", f"{label} y", error_of(out.to_host(), expected["y"]), tolerance)
    for name in MAMBA3_STATES:
        results.add("mamba3_update", f"{label} {names[name]}",
                    error_of(cache[names[name]].to_host(), expected["last_" + name]), tolerance)


def check_mamba3_backward(context, results, dtype, batch, length, heads, channels, groups, states):
    """Every gradient along a random direction, against differences of the definition."""
    inputs = mamba3_inputs(dtype, batch, length, heads, channels, groups, states)
    wide = dict(zip(inputs, widened(*inputs.values())))
    outputs = mamba3(**wide)
    weights = {name: randoms(21, dtype if name == "y" else state_type(dtype))(array.shape) for name, array in outputs.items()}
    gradients = {"grad_" + name: context.empty(array.shape, array.dtype) for name, array in inputs.items()}
    context.run("mamba3_backward", **{name: context.to_device(array) for name, array in inputs.items()},
                **{"grad_" + name: context.to_device(array) for name, array in weights.items()}, **gradients, dt_softplus=1)

    def loss(name, moved):
        values = mamba3(**dict(wide, **{name: moved}))
        turns = np.round((values["last_angle"] - outputs["last_angle"]) / (2 * np.pi))  # theta is known up to whole ones
        values["last_angle"] = values["last_angle"] - 2 * np.pi * turns
        return sum((values[key] * weights[key].astype(np.float64)).sum() for key in values)
    tolerance = {"float64": 1e-6, "float32": 2e-5}.get(np.dtype(dtype).name, 1e-2)
    label = f"{np.dtype(dtype).name} {batch}x{length}x{heads}x{channels} g{groups} n{states}"
    generator, step = np.random.default_rng(22), 1e-6
    for name, array in wide.items():
        direction = generator.uniform(-1, 1, array.shape)
        difference = (loss(name, array + step * direction) - loss(name, array - step * direction)) / (2 * step)
        parts = gradients["grad_" + name].to_host().astype(np.float64) * direction
        results.add("mamba3_backward", f"{label} grad_{name}",
                    abs(parts.sum() - difference) / max(np.abs(parts).sum(), 1.0), tolerance)


def check_causal_conv1d_update(context, results, dtype, state_dtype, channels, width, steps, ring):
    """A few steps in slots of a cache, whose states are moved on or are rings."""
    uniform, wide_uniform, state_uniform = randoms(14, dtype), randoms(15, state_type(dtype)), randoms(16, state_dtype)
    slots, seqlens = np.array([4, -1, 1], np.int32), np.array([5, 0, 2 * width + 1], np.int32)
    x, weight, bias = uniform((3, channels, steps)), wide_uniform((channels, width)), wide_uniform((channels,))
    length = width + 1 if ring else width - 1
    cache = state_uniform((6, channels, length))
    wide_x, wide_weight, wide_bias, expected = widened(x, weight, bias, cache)
    y = np.zeros(wide_x.shape)
    for row, slot in enumerate(slots):
        if slot < 0:
            continue
        order = (seqlens[row] + np.arange(length)) % length if ring else np.arange(length)
        history = np.concatenate([expected[slot][:, order], wide_x[row]], -1)
        for t in range(steps):
            z = wide_bias + (wide_weight * history[:, length + t - width + 1:length + t + 1]).sum(-1)
            y[row, :, t] = z / (1 + np.exp(-z))
        after = (seqlens[row] + steps + np.arange(length)) % length if ring else np.arange(length)
        expected[slot][:, after] = history[:, steps:]
    state, out = context.to_device(cache), context.empty(x.shape, dtype)
    context.run("causal_conv1d_update", state=state, x=context.to_device(x), weight=context.to_device(weight),
                bias=context.to_device(bias), slots=context.to_device(slots), y=out,
                activation=ssmcuda.ACTIVATIONS["silu"],
                cache_seqlens=context.to_device(seqlens) if ring else None)
    label = (f"{np.dtype(dtype).name} state {np.dtype(state_dtype).name} 3x{channels}x{steps} w{width}"
             + (" ring" if ring else ""))
    results.add("causal_conv1d_update", label, error_of(out.to_host(), y), TOLERANCES[np.dtype(dtype).name])
    results.add("causal_conv1d_update", label + ", state", error_of(state.to_host(), expected),
                TOLERANCES[np.dtype(state_dtype).name])


def check_rms_norm(context, results, dtype, width, group, norm_before_gate):
    """The norm with a residual of the state type and its gradients, or with a group the gated ones."""
    uniform, wide_uniform = randoms(17, dtype), randoms(18, state_type(dtype))
    gated, rows, eps = group > 0, 37, 1e-5
    shape, name = (rows, width), "gated_rms_norm" if group > 0 else "rms_norm"
    inputs = dict(x=uniform(shape), weight=wide_uniform((width,)), bias=wide_uniform((width,)))
    inputs.update(dict(z=uniform(shape)) if gated else dict(residual=wide_uniform(shape)))
    grad_y = uniform(shape)
    x, weight, bias, second, from_y = widened(*inputs.values(), grad_y)
    sigmoid = 1 / (1 + np.exp(-second))
    gate = second * sigmoid if gated else np.ones(shape)
    before, after = (np.ones(shape), gate) if norm_before_gate else (gate, np.ones(shape))
    h = x * before if gated else x + second
    cut = lambda array: array.reshape(rows, -1, group or width)
    rstd = 1 / np.sqrt((cut(h) ** 2).mean(-1, keepdims=True) + eps)
    n = (cut(h) * rstd).reshape(shape)
    y = (n * weight + bias) * after
    g = from_y * after
    mean = cut(g * weight * n).mean(-1, keepdims=True)
    grad_h = (rstd * (cut(g * weight) - cut(n) * mean)).reshape(shape)
    settings = dict(eps=eps, **(dict(group_size=group, norm_before_gate=int(norm_before_gate)) if gated else {}))
    device = {key: context.to_device(array) for key, array in inputs.items()}
    out = context.empty(shape, dtype)
    extra = {} if gated else dict(residual_out=context.empty(shape, state_type(dtype)))
    context.run(name, y=out, **device, **extra, **settings)
    tolerance, label = TOLERANCES[np.dtype(dtype).name], f"{np.dtype(dtype).name} {rows}x{width} g{group}"
    results.add(name, label, error_of(out.to_host(), y), tolerance)
    gradients = dict(grad_x=context.empty(shape, dtype), grad_weight=context.empty((width,), state_type(dtype)),
                     grad_bias=context.empty((width,), state_type(dtype)))
    expected = dict(grad_x=grad_h * before, grad_weight=(g * n).sum(0), grad_bias=g.sum(0))
    if gated:
        gradients["grad_z"] = context.empty(shape, dtype)
        slope = sigmoid * (1 + second * (1 - sigmoid))
        expected["grad_z"] = slope * (from_y * (n * weight + bias) if norm_before_gate else grad_h * x)
        given = device
    else:  # of what the forward call gave
        given = dict(x=extra["residual_out"], weight=device["weight"])
        results.add(name, label + ", residual_out", error_of(given["x"].to_host(), h), TOLERANCES[np.dtype(state_type(dtype)).name])
    context.run(name + "_backward", grad_y=context.to_device(grad_y), **given, **gradients, **settings)
    for key, tensor in gradients.items():
        results.add(name + "_backward", f"{label}, {key}", error_of(tensor.to_host(), expected[key]), 4 * tolerance)


def check_diagonal(context, results, dtype, heads, states, length):
    """The kernel of a diagonal system is its recurrence's answer to an impulse, and gradients of either agree with
    differences; the scan of its states is the loop."""
    real = np.zeros(0, dtype).real.dtype
    rng = np.random.default_rng(23)
    complex_of = lambda shape: (rng.uniform(-1, 1, shape) + 1j * rng.uniform(-1, 1, shape)).astype(dtype)
    a = (-rng.uniform(0.05, 0.5, (heads, states)) + 1j * np.pi * (np.arange(states) % 20)).astype(dtype)
    b, c = complex_of((heads, states)), complex_of((heads, states))
    dt = rng.uniform(0.01, 0.1, heads).astype(real)
    label, tolerance = f"{np.dtype(dtype).name} {heads}x{states}x{length}", 20 * TOLERANCES[real.name]
    s = dt[:, None].astype(np.float64) * a.astype(np.complex128)
    a_bar, b_bar = np.exp(s), b * np.expm1(s) / a.astype(np.complex128)
    powers = np.exp(s[:, :, None] * np.arange(length))
    terms = 2 * (c * b_bar)[:, :, None] * powers
    device = {name: context.to_device(array) for name, array in dict(a=a, b=b, c=c, dt=dt).items()}
    k = context.empty((heads, length), real)
    context.run("diagonal_kernel", **device, k=k)
    results.add("diagonal_kernel", label, error_of(k.to_host(), terms.sum(1).real), tolerance)
    grad_k = rng.uniform(-1, 1, (heads, length)).astype(real)
    gradients = {f"grad_{name}": context.empty(tensor.shape, tensor.dtype) for name, tensor in device.items()}
    context.run("diagonal_kernel_backward", **device, grad_k=context.to_device(grad_k), **gradients)
    results.add("diagonal_kernel_backward", label, error_of(gradients["grad_c"].to_host(), 2 * np.einsum(
        "hl,hnl->hn", grad_k, np.conj(b_bar[:, :, None] * powers))), tolerance)
    u = rng.uniform(-1, 1, (2, heads, length)).astype(real)
    y, last = context.empty(u.shape, real), context.empty((2, heads, states), dtype)
    context.run("diagonal_ssm", **device, u=context.to_device(u), y=y, last_state=last)
    x, expected = np.zeros((2, heads, states), np.complex128), np.empty(u.shape)
    sums, seen = np.zeros((heads, states), np.complex128), []
    for t in range(length):
        x = a_bar * x + b_bar * u[:, :, t, None]
        seen.append(x)
        expected[:, :, t] = 2 * (c * x).sum(-1).real
    results.add("diagonal_ssm", label, error_of(y.to_host(), expected), tolerance)
    results.add("diagonal_ssm", label + ", last_state", error_of(last.to_host(), x), tolerance)
    grad_y = rng.uniform(-1, 1, u.shape).astype(real)
    for t in range(length):
        sums += 2 * (grad_y[:, :, t, None] * np.conj(seen[t])).sum(0)
    grad_u, grad_c = context.empty(u.shape, real), context.empty((heads, states), dtype)
    context.run("diagonal_ssm_backward", **device, u=context.to_device(u), grad_y=context.to_device(grad_y), grad_u=grad_u,
                grad_c=grad_c)
    results.add("diagonal_ssm_backward", label + ", grad_c", error_of(grad_c.to_host(), sums), tolerance)
    back, expected = np.zeros((2, heads, states), np.complex128), np.empty(u.shape)
    for t in reversed(range(length)):
        back = 2 * np.conj(c) * grad_y[:, :, t, None] + back
        expected[:, :, t] = (np.conj(b_bar) * back).sum(-1).real
        back = np.conj(a_bar) * back
    results.add("diagonal_ssm_backward", label + ", grad_u", error_of(grad_u.to_host(), expected), tolerance)
    bu, interval = complex_of((2, states, length)), rng.uniform(0, 1.5, (2, length)).astype(real)
    step = np.full(states, 0.05, real)
    states_of_scan = context.empty(bu.shape, dtype)
    context.run("diagonal_scan", a=context.to_device(a[0]), dt=context.to_device(step), bu=context.to_device(bu),
                interval=context.to_device(interval), x=states_of_scan)
    wide, expected = step.astype(np.float64)[:, None] * a[0].astype(np.complex128)[:, None], np.empty(bu.shape, np.complex128)
    x = np.zeros((2, states), np.complex128)
    for t in range(length):
        own = wide[None, :, 0] * interval[:, None, t]
        x = np.exp(own) * x + np.expm1(own) / a[0].astype(np.complex128) * bu[:, :, t]
        expected[:, :, t] = x
    results.add("diagonal_scan", label, error_of(states_of_scan.to_host(), expected), tolerance)


def run_checks(context, results, only, lengths):
    wanted = lambda name: not only or only == name
    for length in lengths:
        # Python's loops are slow: the long sequences in one type.
        types = (np.float32, np.float64, np.complex64, np.complex128, np.float16) if length < 2000 else (np.float32,)
        for dtype in types:
            if wanted("linear_recurrence") or wanted("linear_recurrence_backward"):
                for reverse, channels_last in ((False, False), (True, False), (False, True), (True, True)):
                    results.attempt("linear_recurrence", f"{np.dtype(dtype).name} {length}", lambda: check_linear_recurrence(
                        context, results, dtype, (2, 5, length), reverse, channels_last))
            if wanted("selective_scan") and np.dtype(dtype).kind == "f" and length < 10000:
                results.attempt("selective_scan", f"{np.dtype(dtype).name} {length}", lambda: check_selective_scan(
                    context, results, dtype, 2, 6, 2, 16, length))
            if wanted("selective_scan_backward") and np.dtype(dtype).kind == "f" and length < 10000:
                for channels, groups in ((6, 2), (70, 1)):
                    results.attempt("selective_scan_backward", f"{np.dtype(dtype).name} {length}",
                                    lambda: check_selective_scan_backward(context, results, dtype, 2, channels, groups, 16, length))
            if wanted("ssd") and np.dtype(dtype).kind == "f" and length < 2000:
                for heads, channels, groups, states in ((4, 8, 2, 16), (2, 70, 1, 100)):
                    results.attempt("ssd", f"{np.dtype(dtype).name} {length}", lambda: check_ssd(
                        context, results, dtype, 2, length, heads, channels, groups, states))
            if wanted("ssd_backward") and np.dtype(dtype).kind == "f" and length < 1000:
                for heads, channels, groups, states in ((4, 8, 2, 16), (2, 70, 1, 100)):
                    results.attempt("ssd_backward", f"{np.dtype(dtype).name} {length}", lambda: check_ssd_backward(
                        context, results, dtype, 2, length, heads, channels, groups, states))
            if (wanted("mamba3") or wanted("mamba3_update")) and np.dtype(dtype).kind == "f" and length < 2000:
                for heads, channels, groups, states in ((4, 8, 2, 16), (2, 70, 1, 100)):
                    results.attempt("mamba3", f"{np.dtype(dtype).name} {length}", lambda: check_mamba3(
                        context, results, dtype, 2, length, heads, channels, groups, states))
            if wanted("mamba3_backward") and np.dtype(dtype).kind == "f" and length < 200:
                for heads, channels, groups, states in ((4, 8, 2, 16), (2, 70, 1, 100)):
                    results.attempt("mamba3_backward", f"{np.dtype(dtype).name} {length}", lambda: check_mamba3_backward(
                        context, results, dtype, 2, length, heads, channels, groups, states))
        for dtype in (np.float32, np.float64):
            if wanted("associative_scan"):
                for channels_last in (False, True):
                    results.attempt("associative_scan", f"{np.dtype(dtype).name} {length}", lambda: check_associative_scan(
                        context, results, dtype, (2, 3, length), channels_last))
    for operation in ("selective_scan", "selective_scan_backward", "causal_conv1d", "causal_conv1d_backward"):
        if wanted(operation):
            for dtype, channels, length in ((np.float32, 6, 300), (np.float16, 6, 300), (np.float32, 130, 90),
                                            (np.float64, 2, 200)):
                results.attempt(operation, f"{np.dtype(dtype).name} ids", lambda: check_sequence_ids(
                    context, results, operation, dtype, 2, channels, length))
    if wanted("selective_state_update"):
        for dtype, state_dtype in ((np.float32, np.float32), (np.float32, np.float16), (np.float16, np.float32),
                                   (np.float16, np.float16), (np.float64, np.float64)):
            for heads, channels, groups, states in ((0, 48, 2, 16), (0, 7, 1, 21), (4, 64, 2, 128), (3, 5, 1, 300)):
                results.attempt("selective_state_update", f"{heads}x{channels} n{states}", lambda: check_selective_state_update(
                    context, results, dtype, state_dtype, 3, heads, channels, groups, states, [4, -1, 1]))
    if wanted("causal_conv1d_update"):
        for dtype, state_dtype in ((np.float32, np.float32), (np.float32, np.float16), (np.float16, np.float16),
                                   (np.float64, np.float64)):
            for channels, width, steps, ring in ((48, 4, 1, False), (300, 4, 3, True), (7, 2, 2, False), (5, 9, 12, True)):
                results.attempt("causal_conv1d_update", f"{channels} w{width}", lambda: check_causal_conv1d_update(
                    context, results, dtype, state_dtype, channels, width, steps, ring))
    if wanted("rms_norm") or wanted("gated_rms_norm"):
        for dtype in (np.float32, np.float16, np.float64):
            for width, group, before in ((48, 0, False), (769, 0, False), (9000, 0, False), (96, 96, False), (96, 32, True),
                                         (1536, 512, False), (2560, 2560, True)):
                results.attempt("rms_norm", f"{width} g{group}", lambda: check_rms_norm(
                    context, results, dtype, width, group, before))
    if any(wanted(name) for name in ("diagonal_kernel", "diagonal_kernel_backward", "diagonal_ssm", "diagonal_ssm_backward",
                                     "diagonal_scan")):
        for dtype in (np.complex64, np.complex128):
            for heads, states, length in ((3, 5, 70), (2, 64, 300), (2, 300, 40)):
                results.attempt("diagonal_ssm", f"{np.dtype(dtype).name} {states}", lambda: check_diagonal(
                    context, results, dtype, heads, states, length))
    if not only:
        results.attempt("selective_scan", "wrong values", lambda: check_wrong_values(context, results))
    if wanted("linear_recurrence"):
        for dtype in (np.float32, np.complex128):
            results.attempt("linear_recurrence", "packed", lambda: check_packed(context, results, dtype))


def run_large(context, results, only):
    """Each h_t from the h_{t-1} that was computed, over all of a large result; ten runs are equal to the last bit."""
    for shape, dtype, channels_last in (((8, 1536, 4096), np.float32, False), ((8, 1536, 4096), np.float32, True),
                                        ((8, 1536, 4096), np.float16, False), ((4, 1536, 2048), np.complex64, False),
                                        ((1, 1, 2 ** 26), np.float32, False), ((1, 1, 2 ** 26 + 7), np.float32, False),
                                        ((1, 1, 2 ** 24 + 1), np.complex64, False), ((1, 3, 2 ** 23 + 5), np.float64, False)):
        if only and only != "linear_recurrence":
            return

        def check():
            uniform = randoms(11, dtype)
            a, b = uniform(shape, 0.5, 0.999), uniform(shape)
            device = context.to_device(a, channels_last), context.to_device(b, channels_last)
            out = context.empty(shape, dtype, channels_last)
            context.run("linear_recurrence", a=device[0], b=device[1], h=out)
            h = out.to_host()
            before = np.concatenate([np.zeros_like(h[..., :1]), h[..., :-1]], -1)
            label = f"{np.dtype(dtype).name} {shape} {'channels' if channels_last else 'time'}"
            step = a.astype(state_type(dtype)) * before + b
            results.add("linear_recurrence", label, float(np.abs(h - step).max()), 20 * TOLERANCES[np.dtype(dtype).name])
            same = True
            for _ in range(9):
                context.run("linear_recurrence", a=device[0], b=device[1], h=out)
                same = same and out.to_host().tobytes() == h.tobytes()
            results.add("linear_recurrence", label + ", ten runs", 0.0 if same else np.inf, 0.0, "runs differ")
        results.attempt("linear_recurrence", f"large {shape}", check)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--backend", action="append", default=[])
    parser.add_argument("--device", required=True, choices=["cpu", "cuda", "emulated"])
    parser.add_argument("--cases")
    parser.add_argument("--operation")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    started = time.monotonic()
    library = ssmcuda.Library(options.library, options.backend)
    results = Results(options.device)
    try:
        with ssmcuda.Context(library, options.device) as context:
            for name, (arguments, _) in library.operations.items():
                size = library.layout(f"ssm_{name}_args")
                results.add(name, "the size of its arguments", abs(size - ssmcuda.ctypes.sizeof(arguments)), 0.0)
            # The emulated device is a thousand times slower: shorter sequences there.
            lengths = [33] if options.small else [1, 2, 31, 33, 129, 1025] + ([] if options.device == "emulated" else [5000, 70001])
            run_checks(context, results, options.operation, lengths)
            if options.cases:
                run_cases(context, results, options.cases, options.operation)
            if options.large:
                run_large(context, results, options.operation)
    except ssmcuda.SsmError as problem:
        print(problem)
        print(library.backend_log)
        results.add("context", options.device, np.inf, 0.0, str(problem))
    if options.json:
        Path(options.json).write_text("[\n" + ",\n".join(" " + json.dumps(row) for row in results.rows) + "\n]\n")
    print(f"{options.device}, version {library.version}, {time.monotonic() - started:.0f} s")
    return results.close()


if __name__ == "__main__":
    sys.exit(main())
