#!/usr/bin/env python3
"""The peer of kernel_bench: the same calls in PyTorch, each as fast as PyTorch has it.

  python3 tools/gpu/torch_peer.py [--device cuda] LINES.jsonl

LINES.jsonl holds what kernel_bench printed. For each matmul, attention and copy line one line comes back with the same
group, name and sizes and PyTorch's seconds, TFLOP/s or GB/s, after a line about PyTorch. Attention is timed with every
fused backend of scaled_dot_product_attention that takes the shape (on the CPU also with the math one); the line's own
figure is the fastest one's. Inside documents it has no kernel, and those lines are passed over.
Operands are rotated through more memory than any L2 holds, as in kernel_bench.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

parser = argparse.ArgumentParser()
parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
parser.add_argument("--seconds", type=float, default=0.1, help="of kernel time in a repeat")
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("lines")
args = parser.parse_args()
device = args.device
ROTATE_BYTES = 160 << 20
BACKENDS = dict(
    flash=SDPBackend.FLASH_ATTENTION, cudnn=SDPBackend.CUDNN_ATTENTION,
    efficient=SDPBackend.EFFICIENT_ATTENTION, **(dict(math=SDPBackend.MATH) if device == "cpu" else {}))


def normal(*shape):
    return torch.randn(*shape, device=device, dtype=torch.bfloat16)


def sets_for(bytes_moved):
    return 1 if device == "cpu" else int(min(64, ROTATE_BYTES / bytes_moved + 2))


def seconds_of(call, sets):
    """Median over repeats of the mean time of call(i), i = which set of operands; (median, least, most)."""
    turn = 0

    def timed(calls):
        nonlocal turn
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
        began = time.perf_counter()
        for _ in range(calls):
            call(turn % sets)
            turn += 1
        if device == "cpu":
            return (time.perf_counter() - began) / calls
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / calls

    timed(1)
    calls = int(max(3, min(2000, args.seconds / timed(3))))
    timed(calls)  # clocks settle
    found = [timed(calls) for _ in range(args.repeats)]
    return statistics.median(found), min(found), max(found)


def rates(found, flops, bytes_moved):
    median, least, most = found
    return dict(seconds=median, least=least, most=most, tflops=flops / median / 1e12,
                gbytesPerSecond=bytes_moved / median / 1e9)


def matmul(line):
    rows, n, k = line["rows"], line["n"], line["k"]
    bytes_moved = 2 * (rows * n + rows * k + n * k)
    sets = sets_for(bytes_moved)
    x, y, w = ([normal(*shape) for _ in range(sets)] for shape in ((rows, k), (rows, n), (n, k)))
    dw = normal(n, k)
    form = line["group"].removeprefix("matmul ").removesuffix(" with squares")
    call = dict(  # results go where ours go; that of a weight in bf16, PyTorch's fastest: ours is added up in fp32
        forward=lambda i: torch.matmul(x[i], w[i].t(), out=y[i]),
        dgrad=lambda i: torch.matmul(y[i], w[i], out=x[i]),
        wgrad=lambda i: torch.matmul(y[i].t(), x[i], out=dw),
    )[form]
    return once((form, rows, n, k), lambda: rates(seconds_of(call, sets), 2 * rows * n * k, bytes_moved))


def attention_once(line, backend):
    tokens, seq, heads, kv_heads, dim = (line[name] for name in ("tokens", "seq", "heads", "kvHeads", "headDim"))
    backward = line["group"].endswith("backward")
    batch = tokens // seq
    bytes_moved = 2 * tokens * (heads + 2 * kv_heads + heads) * dim
    sets = sets_for(bytes_moved)
    operands = [[normal(batch, h, seq, dim).requires_grad_(backward) for h in (heads, kv_heads, kv_heads)]
                for _ in range(sets)]
    grouped = dict(enable_gqa=True) if kv_heads != heads else {}
    run = lambda i: F.scaled_dot_product_attention(*operands[i], is_causal=True, **grouped)  # noqa: E731
    flops = 4 * tokens * (seq + 1) / 2 * heads * dim
    with sdpa_kernel(backend):
        if not backward:
            return rates(seconds_of(run, sets), flops, bytes_moved)
        outputs = [run(i) for i in range(sets)]
        dy = normal(batch, heads, seq, dim)
        call = lambda i: torch.autograd.grad(outputs[i], operands[i], dy, retain_graph=True)  # noqa: E731
        return rates(seconds_of(call, sets), 2.5 * flops, bytes_moved)


found_before = {}  # by call: lines that differ in how we add up alone share PyTorch's figure


def once(call, measure_call):
    if call not in found_before:
        found_before[call] = measure_call()
    return found_before[call]


def attention(line):
    if line["name"].startswith("documents"):
        return None  # scaled_dot_product_attention knows them only as a mask over every pair
    call = tuple(value for field, value in line.items() if field != "name")
    return once(call, lambda: attention_by_backend(line))


def attention_by_backend(line):
    backends = {}
    for name, backend in BACKENDS.items():
        try:
            backends[name] = attention_once(line, backend)
        except (RuntimeError, ValueError):  # this backend does not take the shape, the device or the memory
            continue
        finally:
            if device == "cuda":
                torch.cuda.empty_cache()
    best = max(backends.values(), key=lambda b: b["tflops"], default={})
    return dict(best, backends=backends)


def copy(line):
    bytes_moved = 8 * line["elements"]
    sets = sets_for(bytes_moved)
    pairs = [[torch.randn(line["elements"], device=device) for _ in range(2)] for _ in range(sets)]
    return rates(seconds_of(lambda i: pairs[i][1].copy_(pairs[i][0]), sets), 0, bytes_moved)


def measure(line):
    if line["group"].startswith("matmul"):
        return matmul(line)
    if line["group"].startswith("attention"):
        return attention(line)
    return copy(line) if line["name"] == "copy" else None


MEASURED = ("seconds", "least", "most", "tflops", "gbytesPerSecond")
name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
cudnn = torch.backends.cudnn.version() if device == "cuda" else None
print(json.dumps(dict(torch=torch.__version__, cuda=torch.version.cuda, cudnn=cudnn, device=name)), flush=True)
torch.manual_seed(1)
for text in open(args.lines):
    if "group" not in json.loads(text):
        continue  # the line about the device
    call = {key: value for key, value in json.loads(text).items() if key not in MEASURED}
    found = measure(call)
    if found is not None:
        print(json.dumps(dict(call, **found)), flush=True)
