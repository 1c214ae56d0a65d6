"""PyTorch on the CPU: the cumulative functions, and the recurrences as scripted loops over time."""
import peer


def load(threads):
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    types = {"float32": torch.float32, "float64": torch.float64}

    @torch.jit.script
    def recurrence(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor):
        h = b[0]
        out[0] = h
        for t in range(1, a.size(0)):
            h = a[t] * h + b[t]
            out[t] = h

    @torch.jit.script
    def selective_scan(u: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor,
                       z: torch.Tensor, dt_bias: torch.Tensor, out: torch.Tensor):
        # u, dt, z (L,B,D), b, c (L,B,N): the published reference, time first.
        s = torch.nn.functional.softplus(dt + dt_bias)
        h = torch.zeros(u.size(1), u.size(2), a.size(1))
        for t in range(u.size(0)):
            step = s[t].unsqueeze(-1)
            h = torch.exp(step * a) * h + (step * u[t].unsqueeze(-1)) * b[t].unsqueeze(1)
            y = (h * c[t].unsqueeze(1)).sum(-1) + d * u[t]
            out[t] = y * torch.nn.functional.silu(z[t])

    def uniform(low, high, *shape, dtype=torch.float32):
        return torch.empty(*shape, dtype=dtype).uniform_(low, high)

    def candidates(task):
        dtype = types.get(task["dtype"])
        batch, channels, length, operation = task["batch"], task["channels"], task["length"], task["operation"]
        rows = batch * channels
        if dtype is None:
            return {}
        if operation == "associative_scan":
            if task["combine"] == "multiply":
                x = uniform(0.99, 1.01, rows, length, dtype=dtype)
                return {"cumprod": lambda: torch.cumprod(x, 1)}
            x = uniform(-1, 1, rows, length, dtype=dtype)
            name = {"add": "cumsum", "maximum": "cummax", "minimum": "cummin"}[task["combine"]]
            return {name: lambda: getattr(torch, name)(x, 1)}
        if operation == "linear_recurrence" and rows >= 256:
            a, b = uniform(0.5, 1, length, rows, dtype=dtype), uniform(-1, 1, length, rows, dtype=dtype)
            out = torch.empty_like(a)
            return {"scripted loop over time": lambda: recurrence(a, b, out)}
        # Some thousand steps take this loop ten seconds; more would only be waited for.
        if operation == "selective_scan" and dtype == torch.float32 and length <= 4096:
            states = task["states"]
            u, dt, z = (uniform(-1, 1, length, batch, channels) for _ in range(3))
            a = -torch.arange(1, states + 1, dtype=dtype).repeat(channels, 1)
            b, c = (uniform(-1, 1, length, batch, states) for _ in range(2))
            d, dt_bias = uniform(0, 1, channels), uniform(-4, -2, channels)
            out = torch.empty_like(u)
            return {"reference loop over time": lambda: selective_scan(u, dt, a, b, c, d, z, dt_bias, out)}
        return {}

    return torch.__version__, threads, candidates


peer.serve("torch", load)
