"""NumPy: accumulate for the associative scans, a loop over time for the linear recurrence. One thread."""
import peer


def load(threads):
    import numpy as np

    types = {"float32": np.float32, "float64": np.float64, "complex64": np.complex64}
    accumulates = {"add": ("cumsum", np.add), "multiply": ("cumprod", np.multiply),
                   "maximum": ("maximum.accumulate", np.maximum), "minimum": ("minimum.accumulate", np.minimum)}
    random = np.random.default_rng(1)

    def uniform(shape, dtype, low, high):
        return random.uniform(low, high, shape).astype(dtype)

    def candidates(task):
        dtype = types.get(task["dtype"])
        rows, length = task["batch"] * task["channels"], task["length"]
        if dtype is None:
            return {}
        if task["operation"] == "associative_scan":
            name, ufunc = accumulates[task["combine"]]
            x = uniform((rows, length), dtype, 0.99, 1.01) if task["combine"] == "multiply" else uniform((rows, length), dtype, -1, 1)
            y = np.empty_like(x)
            return {name: lambda: ufunc.accumulate(x, axis=1, out=y)}
        if task["operation"] == "linear_recurrence" and rows >= 256:
            # Time-major, the layout that suits it: one vector operation over all rows per step.
            a, b = uniform((length, rows), dtype, 0.5, 1), uniform((length, rows), dtype, -1, 1)
            h = np.empty_like(a)

            def loop():
                np.copyto(h[0], b[0])
                for t in range(1, length):
                    np.multiply(a[t], h[t - 1], out=h[t])
                    np.add(h[t], b[t], out=h[t])
            return {"loop over time": loop}
        return {}

    return np.__version__, 1, candidates


peer.serve("numpy", load)
