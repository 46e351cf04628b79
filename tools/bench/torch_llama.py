#!/usr/bin/env python3
"""The peer: one training step of the same LLaMA in PyTorch on the CPU, tuned as well as PyTorch can be.

Same model, batch, optimizer and data type as `thalweg bench train`; prints one JSON line with tokensPerSecond (median
step). bf16 = autocast over fp32 parameters. Run it with tcmalloc preloaded and THP_MEM_ALLOC_ENABLE=1: plain malloc
costs PyTorch 15-45% here. tools/bench/against_torch.mjs does so and alternates it with ours.
"""
import argparse
import json
import math
import os
import resource
import statistics
import time

PRESETS = {
    "10m": dict(dim=256, layers=8, heads=4, kv_heads=4, ffn=704, vocab=8192, batch=8, seq=256, tied=False),
    "124m": dict(dim=768, layers=12, heads=12, kv_heads=12, ffn=2048, vocab=50257, batch=4, seq=256, tied=True),
}

parser = argparse.ArgumentParser()
parser.add_argument("--preset", choices=PRESETS, default="10m")
parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
parser.add_argument("--batch", type=int)
parser.add_argument("--seq", type=int)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--warmup", type=int, default=3)
parser.add_argument("--compile", action="store_true")
args = parser.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))

import torch  # noqa: E402  (after OMP_NUM_THREADS)
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

c = argparse.Namespace(**PRESETS[args.preset])
batch, seq = args.batch or c.batch, args.seq or c.seq
head_dim = c.dim // c.heads
torch.set_num_threads(args.threads)
torch.set_float32_matmul_precision("highest")
torch.manual_seed(1)


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
    def __init__(self):
        super().__init__()
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
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(F.rms_norm(x, (c.dim,), self.norm.to(x.dtype), 1e-5))
        return F.cross_entropy(logits.view(-1, c.vocab).float(), targets.reshape(-1))


model = Llama()
groups = [
    dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=0.1),
    dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0),
]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
forward = torch.compile(model) if args.compile else model
tokens = torch.randint(0, c.vocab, (2, batch, seq + 1), generator=torch.Generator().manual_seed(1))


def step(i):
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
        loss = forward(tokens[i % 2, :, :-1], tokens[i % 2, :, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


losses = [step(i) for i in range(args.warmup)]
seconds = []
for i in range(args.steps):
    start = time.perf_counter()
    losses.append(step(args.warmup + i))
    seconds.append(time.perf_counter() - start)
median = statistics.median(seconds)
print(json.dumps(dict(
    peer=f"torch {torch.__version__}" + (" compile" if args.compile else " eager"), preset=args.preset,
    precision=args.precision, batch=batch, seq=seq, threads=args.threads,
    tokensPerSecond=round(batch * seq / median, 1), stepMs=round(1e3 * median, 2), losses=[round(l, 4) for l in losses[:4]],
    peakRssMiB=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))))
