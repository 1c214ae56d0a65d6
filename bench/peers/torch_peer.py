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

    def ssd(x, dt, a, b, c, d, z, dt_bias, chunk=64):
        """x, z (B,L,H,P), dt (B,L,H), a, d, dt_bias (H), b, c (B,L,N): chunks as masked products (Dao and Gu, section 6)."""
        batch, length, heads, channels = x.shape
        s = torch.nn.functional.softplus(dt + dt_bias)
        cut = (batch, length // chunk, chunk)
        decay = (s * a).view(*cut, heads).cumsum(2)
        input = (x * s.unsqueeze(-1)).view(*cut, heads, channels)
        b, c = b.view(*cut, -1), c.view(*cut, -1)
        # Within a chunk.
        pairs = decay.transpose(2, 3).unsqueeze(-1) - decay.transpose(2, 3).unsqueeze(-2)
        mask = torch.ones(chunk, chunk, dtype=torch.bool).tril()
        weights = torch.exp(pairs.masked_fill(~mask, float("-inf"))) * torch.matmul(c, b.transpose(2, 3)).unsqueeze(2)
        y = torch.matmul(weights, input.transpose(2, 3)).transpose(2, 3)
        # From chunk to chunk.
        last = decay[:, :, -1:, :]
        given = torch.einsum("bkqhp,bkqn->bkhpn", input * torch.exp(last - decay).unsqueeze(-1), b)
        state = torch.zeros_like(given[:, 0])
        before = []
        for k in range(given.size(1)):
            before.append(state)
            state = torch.exp(last[:, k, 0]).unsqueeze(-1).unsqueeze(-1) * state + given[:, k]
        y = y + torch.einsum("bkhpn,bkqn->bkqhp", torch.stack(before, 1), c) * torch.exp(decay).unsqueeze(-1)
        return (y.reshape(x.shape) + d.unsqueeze(-1) * x) * torch.nn.functional.silu(z)

    def state_update(state, x, dt, a, b, c, d, z, dt_bias):
        """state (B,H,P,N), x, z (B,H,P), dt (B,H,1), a (H,1,N or 1), b, c (B,N), d, dt_bias (H,1)."""
        s = torch.nn.functional.softplus(dt + dt_bias)
        state.mul_(torch.exp(s.unsqueeze(-1) * a)).add_((s * x).unsqueeze(-1) * b[:, None, None, :])
        return (torch.matmul(state, c[:, None, :, None]).squeeze(-1) + d * x) * torch.nn.functional.silu(z)

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
        heads, states = task["heads"], task["states"]
        if operation == "ssd" and dtype == torch.float32 and length % 64 == 0:
            x, z = (uniform(-1, 1, batch, length, heads, channels) for _ in range(2))
            dt = uniform(-1, 1, batch, length, heads)
            b, c = (uniform(-1, 1, batch, length, states) for _ in range(2))
            a, d, dt_bias = -uniform(1, 16, heads), uniform(0.5, 1.5, heads), uniform(-6.9, -2.3, heads)
            return {"chunks of 64 as products": lambda: ssd(x, dt, a, b, c, d, z, dt_bias)}
        if operation == "selective_state_update" and dtype == torch.float32:
            state = uniform(-1, 1, batch, heads, channels, states)
            x, z, dt = uniform(-1, 1, batch, heads, channels), uniform(-1, 1, batch, heads, channels), uniform(-1, 1, batch, heads, 1)
            b, c = (uniform(-1, 1, batch, states) for _ in range(2))
            a = -uniform(1, 16, heads, 1, states if channels == 1 else 1)
            d, dt_bias = uniform(0.5, 1.5, heads, 1), uniform(-6.9, -2.3, heads, 1)
            return {"reference": lambda: state_update(state, x, dt, a, b, c, d, z, dt_bias)}
        sums = ("cauchy_multiply", "vandermonde_multiply", "diagonal_kernel")
        if operation in sums and channels * states * length <= 1 << 26:
            v = torch.complex(uniform(-1, 1, channels, states, 1), uniform(-1, 1, channels, states, 1))
            w = torch.complex(uniform(-0.5, -0.1, channels, states, 1), uniform(0, 3, channels, states, 1))
            if operation != "cauchy_multiply":
                steps = torch.arange(length, dtype=dtype)
                return {"direct formula": lambda: 2 * (v * torch.exp(w * steps)).sum(1).real}
            z = torch.complex(uniform(0, 0.01, length), uniform(0, 10, length))
            return {"direct formula": lambda: (v / (z - w) + v.conj() / (z - w.conj())).sum(1)}
        if operation == "causal_conv1d" and dtype == torch.float32:
            width = task["width"]
            x = uniform(-1, 1, batch, channels, length)
            weight, bias = uniform(-0.5, 0.5, channels, 1, width), uniform(-0.5, 0.5, channels)

            def convolve():
                y = torch.nn.functional.conv1d(x, weight, bias, padding=width - 1, groups=channels)
                return torch.nn.functional.silu(y[..., :length])

            return {"conv1d": convolve}
        if operation == "causal_conv":
            u, d = uniform(-1, 1, batch, channels, length, dtype=dtype), uniform(-1, 1, channels, 1, dtype=dtype)
            spectrum = torch.fft.rfft(uniform(-0.1, 0.1, channels, length, dtype=dtype), n=2 * length)

            def transform():
                return torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * spectrum, n=2 * length)[..., :length] + d * u

            return {"rfft with the kernel's spectrum ready": transform}
        return {}

    return torch.__version__, threads, candidates


peer.serve("torch", load)
