"""NumPy: accumulate for the associative scans, the direct formulas of S4's operations, loops over time for recurrences. One
thread but for products of matrices."""
import peer


def load(threads):
    import numpy as np

    types = {"float32": np.float32, "float64": np.float64, "complex64": np.complex64}
    accumulates = {"add": ("cumsum", np.add), "multiply": ("cumprod", np.multiply),
                   "maximum": ("maximum.accumulate", np.maximum), "minimum": ("minimum.accumulate", np.minimum)}
    random = np.random.default_rng(1)

    def uniform(shape, dtype, low, high):
        return random.uniform(low, high, shape).astype(dtype)

    def complexes(*shape):
        return (random.uniform(-1, 1, shape) + 1j * random.uniform(-1, 1, shape)).astype(np.complex64)

    def poles(*shape):
        """S4D-Lin's."""
        return (-0.5 + 1j * np.pi * np.broadcast_to(np.arange(shape[-1]), shape)).astype(np.complex64)

    def legs(states):
        """A and B of the measure (Gu et al. 2020)."""
        root = np.sqrt(2 * np.arange(states) + 1.0)
        return -(np.tril(np.outer(root, root), -1) + np.diag(np.arange(states) + 1.0)), root

    def nplr(states):
        """As S4's authors have it: a skew-symmetric matrix and a correction of rank 1."""
        a, b = legs(states)
        p = np.sqrt(np.arange(states) + 0.5)
        s = a + np.outer(p, p)
        real = np.mean(np.diagonal(s))
        imaginary, v = np.linalg.eigh(s * -1j)
        return real + 1j * imaginary, v.conj().T @ p, v.conj().T @ b

    def direct_sums(task):
        """Every term of the formula at once, then their sum."""
        rows, length, states = task["channels"], task["length"], task["states"]
        v, w = complexes(rows, states, 1), poles(rows, states)[..., None] * np.float32(0.01)
        if task["operation"] == "cauchy_multiply":
            z = (0.01 + 2j * np.tan(np.pi * np.arange(length) / (2 * length + 1))).astype(np.complex64)
            return lambda: (v / (z - w) + v.conj() / (z - w.conj())).sum(1)
        if task["operation"] == "dplr_kernel":
            # The generating function at the roots of unity: four Cauchy sums and the identity of Woodbury.
            p, b, c = (complexes(rows, states, 1) for _ in range(3))
            dt = np.float32(0.01)
            omega = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
            z, factor = (2 / dt * (1 - omega) / (1 + omega)).astype(np.complex64), (2 / (1 + omega)).astype(np.complex64)

            def kernel():
                first, second = 1 / (z - w), 1 / (z - w.conj())

                def cauchy(x, y):
                    product = x * y
                    return (product * first + product.conj() * second).sum(1)

                spectrum = cauchy(c, b) - cauchy(c, p) * cauchy(p.conj(), b) / (1 + cauchy(p.conj(), p))
                return np.fft.irfft(spectrum * factor, length)
            return kernel
        steps = np.arange(length, dtype=np.float32)
        return lambda: 2 * (v * np.exp(w * steps)).sum(1).real

    def recurrences(task):
        """A step at a time, all rows at once."""
        batch, rows, length, states = task["batch"], task["channels"], task["length"], task["states"]
        if task["operation"] == "diagonal_scan":
            a, u = np.exp(poles(batch, states) * np.float32(0.01)), complexes(length, batch, states)
            x = np.empty_like(u)

            def scan():
                x[0] = u[0]
                for t in range(1, length):
                    np.multiply(a, x[t - 1], out=x[t])
                    x[t] += u[t]
            return scan
        u = uniform((length, batch, rows, 1), np.float32, -1, 1)
        y = np.empty((length, batch, rows), np.float32)
        if task["operation"] == "diagonal_ssm":
            a, b, c = np.exp(poles(rows, states) * np.float32(0.01)), complexes(rows, states), complexes(rows, states)

            def diagonal():
                x = np.zeros((batch, rows, states), np.complex64)
                for t in range(length):
                    x = a * x + b * u[t]
                    y[t] = 2 * (c * x).sum(-1).real
            return diagonal
        a = uniform((rows, states, states), np.float32, -0.5 / states, 0.5 / states)
        b, c = uniform((rows, 1, states), np.float32, -1, 1), uniform((rows, states, 1), np.float32, -1, 1)
        u = np.ascontiguousarray(u.transpose(0, 2, 1, 3))  # (L,H,B,1)
        y = np.empty((length, rows, batch, 1), np.float32)

        def dense():
            x = np.zeros((rows, batch, states), np.float32)
            for t in range(length):
                x = x @ a + u[t] * b
                y[t] = x @ c
        return dense

    def project(task):
        """As HiPPO's authors have it: a matrix for each step, made beforehand."""
        batch, length, states = task["batch"], task["length"], task["states"]
        a, b = legs(states)
        one, steps, inputs = np.eye(states), [], []
        for t in range(1, length + 1):
            left = np.linalg.inv(one - a / (2 * t))
            steps.append((left @ (one + a / (2 * t))).T.astype(np.float32))
            inputs.append((left @ b / t).astype(np.float32))
        f, y = uniform((length, batch, 1), np.float32, -1, 1), np.empty((length, batch, states), np.float32)

        def call():
            c = np.zeros((batch, states), np.float32)
            for t in range(length):
                c = c @ steps[t] + f[t] * inputs[t]
                y[t] = c
        return call

    def candidates(task):
        operation, states = task["operation"], task["states"]
        if operation == "hippo_nplr":
            return {"eigh": lambda: nplr(states)}
        dtype = types.get(task["dtype"])
        rows, length = task["batch"] * task["channels"], task["length"]
        if dtype is None:
            return {}
        terms = rows * length * states
        if operation in ("cauchy_multiply", "vandermonde_multiply", "diagonal_kernel", "dplr_kernel"):
            return {"direct formula": direct_sums(task)} if terms <= 1 << 26 else {}
        if operation in ("diagonal_ssm", "diagonal_scan", "dense_ssm"):
            return {"loop over time": recurrences(task)} if length > 1 and terms <= 1 << 28 else {}
        if operation == "hippo_project":
            return {"matrices made beforehand": project(task)} if length * states * states <= 1 << 26 else {}
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
