/**
 * Every op in float64, written as the formula says, with no thought of speed: the truth that engines are compared with.
 * Operands are flat arrays by name (undefined when absent), `d` holds attributes and dimensions.
 */
import { integerNames, scalarNames } from "../../ts/graph/step_inputs.ts";

export type Values = Float64Array;
type Operands = Record<string, Values>;
type Dims = Record<string, number>;

export interface StepInputs {
  scalars: ArrayLike<number>;
  integers: ArrayLike<number>;
}

export type ReferenceOp = (o: Operands, d: Dims, step: StepInputs) => void;

const scalar = (step: StepInputs, name: (typeof scalarNames)[number]) => step.scalars[scalarNames.indexOf(name)]!;
const integer = (step: StepInputs, name: (typeof integerNames)[number]) => step.integers[integerNames.indexOf(name)]!;

/** Clears an accumulator when this call overwrites. */
function begin(y: Values, d: Dims, step: StepInputs): void {
  const first = d.accumulate === 0 || (d.accumulate === 2 && integer(step, "firstMicroBatch") === 1);
  if (first) y.fill(0);
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** c[m, n] += a[m, k] b[k, n] with strides: element (i, j) of a at i * a0 + j * a1. */
function product(
  c: Values,
  a: Values,
  b: Values,
  [m, n, k]: [number, number, number],
  [a0, a1, b0, b1]: [number, number, number, number],
): void {
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let s = 0;
      for (let l = 0; l < k; l++) s += a[i * a0 + l * a1]! * b[l * b0 + j * b1]!;
      c[i * n + j]! += s;
    }
}

const embedding: ReferenceOp = ({ tokens, weight, y }, { rows, dim }) => {
  for (let r = 0; r < rows!; r++) y!.set(weight!.subarray(tokens![r]! * dim!, (tokens![r]! + 1) * dim!), r * dim!);
};

const embeddingBackward: ReferenceOp = ({ tokens, dy, dweight }, d, step) => {
  begin(dweight!, d, step);
  for (let r = 0; r < d.rows!; r++)
    for (let i = 0; i < d.dim!; i++) dweight![tokens![r]! * d.dim! + i]! += dy![r * d.dim! + i]!;
};

/** One row: y = x / rms(x) * w; returns 1 / rms. */
function normRow(x: Values, w: Values, y: Values, eps: number): number {
  const rstd = 1 / Math.sqrt(x.reduce((s, v) => s + v * v, 0) / x.length + eps);
  for (let i = 0; i < x.length; i++) y[i] = x[i]! * rstd * w[i]!;
  return rstd;
}

function normRowBackward(x: Values, w: Values, rstd: number, dy: Values, dx: Values, dw: Values): void {
  const g = dy.map((v, i) => v * w[i]!);
  const mean = g.reduce((s, v, i) => s + v * x[i]!, 0) / x.length;
  for (let i = 0; i < x.length; i++) {
    dw[i]! += dy[i]! * x[i]! * rstd;
    dx[i] = rstd * (g[i]! - x[i]! * rstd * rstd * mean);
  }
}

const row = (x: Values, r: number, n: number) => x.subarray(r * n, (r + 1) * n);

const rmsnorm: ReferenceOp = ({ x, weight, y, rstd }, { rows, dim, eps }) => {
  for (let r = 0; r < rows!; r++) rstd![r] = normRow(row(x!, r, dim!), weight!, row(y!, r, dim!), eps!);
};

const rmsnormBackward: ReferenceOp = ({ x, weight, rstd, dy, addend, dx, dweight }, d, step) => {
  begin(dweight!, d, step);
  for (let r = 0; r < d.rows!; r++) {
    const n = d.dim!;
    normRowBackward(row(x!, r, n), weight!, rstd![r]!, row(dy!, r, n).slice(), row(dx!, r, n), dweight!);
    if (addend) for (let i = 0; i < n; i++) dx![r * n + i]! += addend[r * n + i]!;
  }
};

/** Calls `visit` for every query and key head of packed rows: its slice, its norm weight suffix, its index. */
function normedHeads(d: Dims, visit: (at: (x: Values) => Values, kind: "q" | "k", index: number) => void): void {
  const heads = d.heads! + d.kvHeads!;
  const width = (d.heads! + 2 * d.kvHeads!) * d.headDim!;
  for (let r = 0; r < d.rows!; r++)
    for (let h = 0; h < heads; h++) {
      const start = r * width + h * d.headDim!;
      visit((x) => x.subarray(start, start + d.headDim!), h < d.heads! ? "q" : "k", r * heads + h);
    }
}

const qkNorm: ReferenceOp = ({ x, qWeight, kWeight, y, rstd }, d) => {
  y!.set(x!);
  normedHeads(d, (at, kind, i) => {
    rstd![i] = normRow(at(x!), kind === "q" ? qWeight! : kWeight!, at(y!), d.eps!);
  });
};

const qkNormBackward: ReferenceOp = ({ x, qWeight, kWeight, rstd, dy, dx, dqWeight, dkWeight }, d, step) => {
  begin(dqWeight!, d, step);
  begin(dkWeight!, d, step);
  const arrived = dy!.slice();
  dx!.set(arrived);
  normedHeads(d, (at, kind, i) => {
    const [weight, dweight] = kind === "q" ? [qWeight!, dqWeight!] : [kWeight!, dkWeight!];
    normRowBackward(at(x!), weight, rstd![i]!, at(arrived), at(dx!), dweight);
  });
};

const linear: ReferenceOp = ({ x, weight, residual, y }, { rows, n, k }) => {
  const out = residual ? residual.slice() : new Float64Array(rows! * n!);
  product(out, x!, weight!, [rows!, n!, k!], [k!, 1, 1, k!]);
  y!.set(out);
};

const linearDgrad: ReferenceOp = ({ dy, weight, addend, dx }, { rows, n, k }) => {
  const out = addend ? addend.slice() : new Float64Array(rows! * k!);
  product(out, dy!, weight!, [rows!, k!, n!], [n!, 1, k!, 1]);
  dx!.set(out);
};

const linearWgrad: ReferenceOp = ({ x, dy, dweight }, d, step) => {
  begin(dweight!, d, step);
  product(dweight!, dy!, x!, [d.n!, d.k!, d.rows!], [1, d.n!, d.k!, 1]);
};

const rope: ReferenceOp = ({ x, table, y }, d, step) => {
  const half = d.headDim! / 2;
  const width = (d.heads! + 2 * d.kvHeads!) * d.headDim!;
  if (y !== x) y!.set(x!);
  for (let r = 0; r < d.rows!; r++) {
    const angles = row(table!, integer(step, "positionOffset") + (r % d.seq!), d.headDim!);
    for (let h = 0; h < d.heads! + d.kvHeads!; h++)
      for (let i = 0; i < half; i++) {
        const a = r * width + h * d.headDim! + i;
        const [u, v, cos, sin] = [y![a]!, y![a + half]!, angles[i]!, angles[half + i]! * (d.inverse ? -1 : 1)];
        y![a] = u * cos - v * sin;
        y![a + half] = v * cos + u * sin;
      }
  }
};

/** Offsets of query head h and of its key and value heads within a packed row. */
function headOffsets(d: Dims, h: number): [number, number, number] {
  const shared = Math.floor(h / (d.heads! / d.kvHeads!));
  return [h * d.headDim!, (d.heads! + shared) * d.headDim!, (d.heads! + d.kvHeads! + shared) * d.headDim!];
}

const dot = (a: Values, b: Values) => a.reduce((s, v, i) => s + v * b[i]!, 0);

const attention: ReferenceOp = ({ qkv, starts, y, lse }, d) => {
  const width = (d.heads! + 2 * d.kvHeads!) * d.headDim!;
  const at = (r: number, offset: number) => qkv!.subarray(r * width + offset, r * width + offset + d.headDim!);
  for (let r = 0; r < d.rows!; r++)
    for (let h = 0; h < d.heads!; h++) {
      const [q, k, v] = headOffsets(d, h);
      const first = r - (r % d.seq!) + (starts?.[r] ?? 0);
      const scores = Array.from({ length: r - first + 1 }, (_, j) => d.scale! * dot(at(r, q), at(first + j, k)));
      const most = Math.max(...scores);
      const total = scores.reduce((s, x) => s + Math.exp(x - most), 0);
      lse![r * d.heads! + h] = most + Math.log(total);
      const out = y!.subarray((r * d.heads! + h) * d.headDim!, (r * d.heads! + h + 1) * d.headDim!).fill(0);
      scores.forEach((x, j) => {
        at(first + j, v).forEach((value, i) => {
          out[i]! += (Math.exp(x - most) / total) * value;
        });
      });
    }
};

const attentionBackward: ReferenceOp = ({ qkv, y, lse, dy, starts, dqkv }, d) => {
  const width = (d.heads! + 2 * d.kvHeads!) * d.headDim!;
  const at = (x: Values, r: number, offset: number) => x.subarray(r * width + offset, r * width + offset + d.headDim!);
  dqkv!.fill(0);
  for (let r = 0; r < d.rows!; r++)
    for (let h = 0; h < d.heads!; h++) {
      const [q, k, v] = headOffsets(d, h);
      const grad = row(dy!, r * d.heads! + h, d.headDim!);
      const delta = dot(grad, row(y!, r * d.heads! + h, d.headDim!));
      for (let j = r - (r % d.seq!) + (starts?.[r] ?? 0); j <= r; j++) {
        const p = Math.exp(d.scale! * dot(at(qkv!, r, q), at(qkv!, j, k)) - lse![r * d.heads! + h]!);
        const ds = p * (dot(grad, at(qkv!, j, v)) - delta) * d.scale!;
        for (let i = 0; i < d.headDim!; i++) {
          at(dqkv!, j, v)[i]! += p * grad[i]!;
          at(dqkv!, r, q)[i]! += ds * at(qkv!, j, k)[i]!;
          at(dqkv!, j, k)[i]! += ds * at(qkv!, r, q)[i]!;
        }
      }
    }
};

const attentionDecode: ReferenceOp = ({ qkv, y, kCache, vCache }, d, step) => {
  const n = integer(step, "cacheLength");
  const width = (d.heads! + 2 * d.kvHeads!) * d.headDim!;
  const kv = d.kvHeads! * d.headDim!;
  for (let r = 0; r < d.rows!; r++) {
    const packed = row(qkv!, r, width);
    kCache!.set(packed.subarray(d.heads! * d.headDim!, d.heads! * d.headDim! + kv), (r * d.capacity! + n) * kv);
    vCache!.set(packed.subarray(d.heads! * d.headDim! + kv), (r * d.capacity! + n) * kv);
    // The cached sequence as packed rows whose last row is the new token.
    const all = new Float64Array((n + 1) * width);
    for (let j = 0; j <= n; j++) {
      all.set(row(kCache!, r * d.capacity! + j, kv), j * width + d.heads! * d.headDim!);
      all.set(row(vCache!, r * d.capacity! + j, kv), j * width + d.heads! * d.headDim! + kv);
    }
    all.set(packed, n * width);
    const out = new Float64Array((n + 1) * d.heads! * d.headDim!);
    const lse = new Float64Array((n + 1) * d.heads!);
    attention({ qkv: all, y: out, lse }, { ...d, rows: n + 1, seq: n + 1 }, step);
    y!.set(row(out, n, d.heads! * d.headDim!), r * d.heads! * d.headDim!);
  }
};

const swiglu: ReferenceOp = ({ x, y }, { rows, ffn }) => {
  for (let r = 0; r < rows!; r++)
    for (let i = 0; i < ffn!; i++) {
      const gate = x![2 * r * ffn! + i]!;
      y![r * ffn! + i] = gate * sigmoid(gate) * x![(2 * r + 1) * ffn! + i]!;
    }
};

const swigluBackward: ReferenceOp = ({ x, dy, dx }, { rows, ffn }) => {
  for (let r = 0; r < rows!; r++)
    for (let i = 0; i < ffn!; i++) {
      const [a, b] = [2 * r * ffn! + i, (2 * r + 1) * ffn! + i];
      const [gate, up, g] = [x![a]!, x![b]!, dy![r * ffn! + i]!];
      const s = sigmoid(gate);
      dx![a] = g * up * s * (1 + gate * (1 - s));
      dx![b] = g * gate * s;
    }
};

const linearSwiglu: ReferenceOp = ({ x, weight, gateUp, y }, d, step) => {
  const between = gateUp ?? new Float64Array(2 * y!.length);
  linear({ x: x!, weight: weight!, y: between }, { ...d, n: 2 * d.ffn! }, step);
  swiglu({ x: between, y: y! }, d, step);
};

const linearDgradSwiglu: ReferenceOp = ({ dy, weight, gateUp, dgateUp }, d, step) => {
  const dm = new Float64Array(gateUp!.length / 2);
  linearDgrad({ dy: dy!, weight: weight!, dx: dm }, { ...d, k: d.ffn! }, step);
  swigluBackward({ x: gateUp!, dy: dm, dx: dgateUp! }, d, step);
};

const classifier: ReferenceOp = ({ logits, targets, loss, lse, dlogits }, d, step) => {
  for (let r = 0; r < d.rows!; r++) {
    const z = row(logits!, r, d.columns!).slice();
    const valid = z.subarray(0, d.vocab!);
    const most = Math.max(...valid);
    lse![r] = most + Math.log(valid.reduce((s, v) => s + Math.exp(v - most), 0));
    const target = targets![r]!;
    loss![r] = target < 0 ? 0 : lse![r]! - z[target]!;
    if (!dlogits) continue;
    for (let j = 0; j < d.columns!; j++) {
      const p = j < d.vocab! ? Math.exp(z[j]! - lse![r]!) : 0;
      const g = p * (1 + 2 * d.zLoss! * lse![r]!) - (j === target ? 1 : 0);
      dlogits[r * d.columns! + j] = target < 0 ? 0 : scalar(step, "lossScale") * g;
    }
  }
};

const sum: ReferenceOp = ({ x, y }, d, step) => {
  begin(y!, d, step);
  y![0]! += x!.reduce((s, v) => s + v, 0);
};

const gradNorm: ReferenceOp = ({ grads, loss, norm, status }) => {
  norm![0] = Math.sqrt(grads!.reduce((s, v) => s + v * v, 0));
  if (!Number.isFinite(norm![0]) || !Number.isFinite(loss![0]!)) status![0] = 1;
};

const adamw: ReferenceOp = ({ grad, norm, status, param, m, v }, d, step) => {
  if (status![0] !== 0) return;
  const clip = scalar(step, "clip");
  const factor = clip === 0 ? 1 : Math.min(1, clip / (norm![0]! + 1e-6));
  const lr = scalar(step, "lr") * d.lrScale!;
  for (let i = 0; i < d.n!; i++) {
    const g = grad![i]! * factor;
    m![i]! += (1 - scalar(step, "beta1")) * (g - m![i]!);
    v![i] = scalar(step, "beta2") * v![i]! + (1 - scalar(step, "beta2")) * g * g;
    param![i]! -= lr * scalar(step, "weightDecay") * d.decayScale! * param![i]!;
    const update = (scalar(step, "bias1") * m![i]!) / (Math.sqrt(v![i]! * scalar(step, "bias2")) + scalar(step, "eps"));
    param![i]! -= lr * update;
  }
};

const elementwise: Record<string, ReferenceOp> = {
  add: ({ a, b, y }) => y!.set(a!.map((v, i) => v + b![i]!)),
  fill: ({ y }, d) => void y!.fill(d.value!),
  copy: ({ x, y }) => y!.set(x!),
  scale: ({ x, y }, d) => y!.set(x!.map((v) => d.alpha! * v)),
  axpy: ({ x, y }, d) => y!.set(y!.map((v, i) => v + d.alpha! * x![i]!)),
  dot: ({ a, b, y }) => void (y![0] = dot(a!, b!)),
};

export const referenceOps: Readonly<Record<string, ReferenceOp>> = {
  ...elementwise,
  embedding,
  embeddingBackward,
  rmsnorm,
  rmsnormBackward,
  qkNorm,
  qkNormBackward,
  linear,
  linearDgrad,
  linearWgrad,
  linearSwiglu,
  linearDgradSwiglu,
  rope,
  attention,
  attentionBackward,
  attentionDecode,
  swiglu,
  swigluBackward,
  classifier,
  sum,
  gradNorm,
  adamw,
};
