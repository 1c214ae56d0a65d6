"""SciPy: lfilter, which knows only a recurrence whose decay is the same at every step, and expm. One thread but for products
of matrices."""
import peer


def load(threads):
    import numpy as np
    import scipy
    from scipy.linalg import expm
    from scipy.signal import lfilter

    types = {"float32": np.float32, "float64": np.float64}

    def candidates(task):
        dtype = types.get(task["dtype"])
        if task["operation"] == "discretize_dense":
            root = np.sqrt(2 * np.arange(task["states"]) + 1.0)
            a = -0.01 * (np.tril(np.outer(root, root), -1) + np.diag(np.arange(task["states"]) + 1.0))

            def exponentials():
                for _ in range(task["channels"]):
                    expm(a)
            return {"expm": exponentials}
        if task["operation"] != "linear_recurrence" or dtype is None:
            return {}
        b = np.random.default_rng(1).uniform(-1, 1, (task["batch"] * task["channels"], task["length"])).astype(dtype)
        numerator, denominator = np.array([1], dtype), np.array([1, -0.9], dtype)
        return {"lfilter (constant decay)": lambda: lfilter(numerator, denominator, b, axis=1)}

    return scipy.__version__, 1, candidates


peer.serve("scipy", load)
