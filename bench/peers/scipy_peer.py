"""SciPy: lfilter, which knows only a recurrence whose decay is the same at every step. One thread."""
import peer


def load(threads):
    import numpy as np
    import scipy
    from scipy.signal import lfilter

    types = {"float32": np.float32, "float64": np.float64}

    def candidates(task):
        dtype = types.get(task["dtype"])
        if task["operation"] != "linear_recurrence" or dtype is None:
            return {}
        b = np.random.default_rng(1).uniform(-1, 1, (task["batch"] * task["channels"], task["length"])).astype(dtype)
        numerator, denominator = np.array([1], dtype), np.array([1, -0.9], dtype)
        return {"lfilter (constant decay)": lambda: lfilter(numerator, denominator, b, axis=1)}

    return scipy.__version__, 1, candidates


peer.serve("scipy", load)
