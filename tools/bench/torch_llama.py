#!/usr/bin/env python3
"""The peer: training steps of the same LLaMA in PyTorch, tuned as well as PyTorch can be.

Same model, batch, optimizer and data type as `thalweg bench train`; prints one JSON line with tokensPerSecond (median
step). bf16 = autocast over fp32 parameters.
On the CPU, run it with tcmalloc preloaded and THP_MEM_ALLOC_ENABLE=1: plain malloc costs PyTorch 15-45% there.
tools/bench/against_torch.mjs does so and alternates it with ours.
On a GPU (--device cuda) the attention backend is the fastest one at the model's shape that torch.compile takes, the
residual stream is bf16 as ours is, and the micro-batch is halved while the memory does not suffice. The loss is taken
whole; where that does not fit the whole micro-batch, also in chunks of tokens, whose logits are computed twice, and the
faster step counts.
"""
import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import sys
import time

PRESETS = {
    "10m": dict(dim=256, layers=8, heads=4, kv_heads=4, ffn=704, vocab=8192, batch=8, seq=256, tied=False),
    "124m": dict(dim=768, layers=12, heads=12, kv_heads=12, ffn=2048, vocab=50257, batch=4, seq=256, tied=True),
    "paper-0.1b": dict(dim=768, layers=12, heads=12, kv_heads=12, ffn=3072, vocab=32000, batch=8, seq=4096, tied=False),
    "paper-0.3b": dict(dim=1024, layers=24, heads=16, kv_heads=16, ffn=2048, vocab=32000, batch=8, seq=4096, tied=False),
    "paper-0.6b": dict(dim=1536, layers=24, heads=32, kv_heads=32, ffn=6144, vocab=32000, batch=4, seq=4096, tied=False),
    "paper-1.2b": dict(dim=2048, layers=16, heads=16, kv_heads=16, ffn=8192, vocab=32000, batch=4, seq=4096, tied=False),
}
HEAD_CHUNK = 4096  # tokens whose logits exist at a time when the loss is taken in chunks

parser = argparse.ArgumentParser()
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--preset", choices=PRESETS, default="10m")
parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
parser.add_argument("--batch", type=int)
parser.add_argument("--seq", type=int)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--warmup", type=int, default=3)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--loss", choices=["whole", "chunked", "best"], help="default: best on a GPU, whole on the CPU")
args = parser.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))

import torch  # noqa: E402  (after OMP_NUM_THREADS)
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

c = argparse.Namespace(**PRESETS[args.preset])
batch, seq = args.batch or c.batch, args.seq or c.seq
head_dim = c.dim // c.heads
device = args.device
cuda = device == "cuda"
dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
loss_choice = args.loss or ("best" if cuda else "whole")
torch.set_num_threads(args.threads)
torch.set_float32_matmul_precision("highest")


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.Parameter(torch.ones(c.dim))
        self.norm2 = nn.Parameter(torch.ones(c.dim))
        self.qkv = nn.Linear(c.dim, (c.heads + 2 * c.kv_heads) * head_dim, bias=False)
        self.out = nn.Linear(c.dim, c.dim, bias=False)
        self.gate_up = nn.Linear(c.dim, 2 * c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.dim, bias=False)

    def forward(self, x, cos, sin):
        h = F.rms_norm(x, (c.dim,), self.norm1.to(x.dtype), 1e-5)
        q, k, v = self.qkv(h).view(*h.shape[:2], -1, head_dim).transpose(1, 2).split([c.heads, c.kv_heads, c.kv_heads], 1)
        y = F.scaled_dot_product_attention(rope(q, cos, sin), rope(k, cos, sin), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(F.rms_norm(x, (c.dim,), self.norm2.to(x.dtype), 1e-5)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, chunked):
        super().__init__()
        self.chunked = chunked
        self.embedding = nn.Embedding(c.vocab, c.dim)
        self.blocks = nn.ModuleList(Block() for _ in range(c.layers))
        self.norm = nn.Parameter(torch.ones(c.dim))
        self.head = nn.Linear(c.dim, c.vocab, bias=False)
        inverse = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.outer(torch.arange(seq, dtype=torch.float32), inverse)
        self.register_buffer("cos", angles.cos()[None, None], persistent=False)
        self.register_buffer("sin", angles.sin()[None, None], persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * c.layers) if residual else 0.02)
        if c.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        if cuda:  # autocast would leave the residual stream in fp32, at twice the memory traffic
            x = x.to(dtype)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        x, targets = F.rms_norm(x, (c.dim,), self.norm.to(x.dtype), 1e-5).flatten(0, 1), targets.reshape(-1)
        if not self.chunked:
            return self.loss_sum(x, targets) / targets.numel()
        pieces = zip(x.split(HEAD_CHUNK), targets.split(HEAD_CHUNK))
        return sum(checkpoint(self.loss_sum, *piece, use_reentrant=False) for piece in pieces) / targets.numel()

    def loss_sum(self, x, targets):
        return F.cross_entropy(self.head(x).float(), targets, reduction="sum")


def attention_backends():
    """The backends of scaled_dot_product_attention that take the model's shape, the fastest first; [None] on the CPU."""
    if not cuda:
        return [None]
    q, k, v = (torch.randn(batch, h, seq, head_dim, device=device, dtype=dtype, requires_grad=True)
               for h in (c.heads, c.kv_heads, c.kv_heads))
    dy = torch.randn_like(q)
    seconds = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            with sdpa_kernel(backend):
                for turn in range(12):
                    if turn == 2:
                        torch.cuda.synchronize()
                        start = time.perf_counter()
                    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                    torch.autograd.grad(y, (q, k, v), dy)
                torch.cuda.synchronize()
                seconds[backend] = time.perf_counter() - start
        except RuntimeError:  # this backend does not take the shape or the device
            continue
    return sorted(seconds, key=seconds.get) or [None]


class Trainer:
    """Model, optimizer and data of one variant; step(i) does all micro-batches and the update and reads the loss back."""

    def __init__(self, chunked, backend, micro_batch):
        torch.manual_seed(1)
        self.model = Llama(chunked).to(device)
        groups = [
            dict(params=[p for p in self.model.parameters() if p.dim() >= 2], weight_decay=0.1),
            dict(params=[p for p in self.model.parameters() if p.dim() < 2], weight_decay=0.0),
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.forward = torch.compile(self.model) if args.compile else self.model
        self.tokens = torch.randint(0, c.vocab, (2, batch, seq + 1), generator=torch.Generator().manual_seed(1)).to(device)
        self.backend, self.micro_batch = backend, micro_batch

    def step(self, i):
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for piece in self.tokens[i % 2].split(self.micro_batch):
            chosen = sdpa_kernel(self.backend) if self.backend is not None else contextlib.nullcontext()
            with chosen, torch.autocast(device, dtype=torch.bfloat16, enabled=args.precision == "bf16"):
                loss = self.forward(piece[:, :-1], piece[:, 1:]) * (len(piece) / batch)
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(total)


def measure(chunked, backend):
    """Times the steps of one variant, with the largest micro-batch that the memory takes."""
    micro_batch = batch
    while True:
        try:
            return measure_at(chunked, backend, micro_batch)
        except torch.OutOfMemoryError:
            if micro_batch == 1:
                raise
            micro_batch //= 2
        torch.cuda.empty_cache()
        torch.compiler.reset()


def measure_at(chunked, backend, micro_batch):
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(chunked, backend, micro_batch)
    losses = [trainer.step(i) for i in range(args.warmup)]
    seconds = []
    for i in range(args.steps):
        start = time.perf_counter()
        losses.append(trainer.step(args.warmup + i))
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return dict(
        **named(chunked), microBatch=micro_batch, tokensPerSecond=round(batch * seq / median, 1),
        stepMs=round(1e3 * median, 2), losses=[round(loss, 4) for loss in losses[:4]],
        **(dict(peakBytes=torch.cuda.max_memory_allocated()) if cuda else {}))


def named(chunked):
    return dict(loss="chunked" if chunked else "whole")


def variant(chunked, backends):
    """measure() with the first of the backends that torch.compile takes."""
    for backend in backends:
        try:
            return dict(measure(chunked, backend), **(dict(attention=str(backend)) if cuda else {}))
        except torch.OutOfMemoryError:
            return dict(named(chunked), error="out of memory", tokensPerSecond=0)
        except Exception as error:  # whatever a compiler may throw
            if not cuda or backend is backends[-1]:
                raise
            print(f"{backend}: {error}", file=sys.stderr)
        finally:
            if cuda:
                torch.compiler.reset()
                torch.cuda.empty_cache()


def variants():
    backends = attention_backends()
    found = []
    for chunked in dict(whole=[False], chunked=[True], best=[False, True])[loss_choice]:
        if loss_choice == "best" and chunked and found[0].get("microBatch") == batch:
            break  # the head's product twice can only cost time
        found.append(variant(chunked, backends))
    return found


found = variants()
best = max(found, key=lambda variant: variant["tokensPerSecond"])
print(json.dumps(dict(
    peer=f"torch {torch.__version__}" + (" compile" if args.compile else " eager"), preset=args.preset,
    precision=args.precision, batch=batch, seq=seq, threads=args.threads, **best,
    peakRssMiB=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    **(dict(device=torch.cuda.get_device_name(), variants=found) if cuda else {}))))
