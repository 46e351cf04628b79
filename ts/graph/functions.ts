/**
 * The ops as functions on tensors, for models to read like the formula. Only what a model calls; gradients are recorded
 * by `gradients`. Shapes and formulas stand with the declarations in ./ops.
 */
import { attentionDecode as attentionDecodeOp, attention as attentionOp } from "./ops/attention.ts";
import { add as addOp } from "./ops/elementwise.ts";
import { embedding as embeddingOp } from "./ops/embedding.ts";
import { linear as linearOp } from "./ops/linear.ts";
import { qkNorm as qkNormOp, rmsnorm as rmsnormOp } from "./ops/rmsnorm.ts";
import { rope as ropeOp } from "./ops/rope.ts";
import { swiglu as swigluOp } from "./ops/swiglu.ts";
import type { Tensor } from "./tape.ts";

/** Heads of packed rows [q heads | k heads | v heads]. */
export interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** tokens [rows] -> rows of weight [vocab, dim]. */
export const embedding = (weight: Tensor, tokens: Tensor): Tensor =>
  weight.tape.op(embeddingOp, { tokens, weight }, {}).y;

/** x [rows, dim] / rms(x) * weight [dim]. */
export const rmsnorm = (x: Tensor, weight: Tensor, { eps }: { eps: number }): Tensor =>
  x.tape.op(rmsnormOp, { x, weight }, { eps }).y;

/** x [rows, k] weight [n, k]^T (+ residual [rows, n]). */
export const linear = (x: Tensor, weight: Tensor, { residual }: { residual?: Tensor } = {}): Tensor =>
  x.tape.op(linearOp, { x, weight, residual }, {}).y;

/** RMSNorm of each query and key head inside packed rows. */
export const qkNorm = (
  x: Tensor,
  qWeight: Tensor,
  kWeight: Tensor,
  { heads, kvHeads, headDim, eps }: Heads & { eps: number },
): Tensor => x.tape.op(qkNormOp, { x, qWeight, kWeight }, { heads, kvHeads, headDim, eps }).y;

/** Rotary position embedding of the query and key heads in packed rows. */
export const rope = (x: Tensor, table: Tensor, { heads, kvHeads, headDim, seq }: Heads & { seq: number }): Tensor =>
  x.tape.op(ropeOp, { x, table }, { seq, heads, kvHeads, headDim, inverse: 0 }).y;

/**
 * Causal softmax attention over packed rows of sequences of length seq, scale 1 / sqrt(headDim); with `starts` i32 [rows],
 * the positions where the rows' documents begin, inside documents.
 */
export const attention = (
  qkv: Tensor,
  { heads, kvHeads, headDim, seq, starts }: Heads & { seq: number; starts?: Tensor | undefined },
): Tensor =>
  qkv.tape.op(attentionOp, { qkv, starts }, { seq, heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) }).y;

/** One new token per sequence against caches [rows, capacity, kvHeads * headDim], which it extends. */
export const attentionDecode = (
  qkv: Tensor,
  cache: { kCache: Tensor; vCache: Tensor },
  { heads, kvHeads, headDim }: Heads,
): Tensor => {
  const attributes = { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) };
  return qkv.tape.op(attentionDecodeOp, { qkv }, attributes, { into: { ...cache } }).y;
};

/** silu(gate) * up of x = [gate | up]. */
export const swiglu = (x: Tensor): Tensor => x.tape.op(swigluOp, { x }, { ffn: (x.shape[1] ?? 0) / 2 }).y;

export const add = (a: Tensor, b: Tensor): Tensor => a.tape.op(addOp, { a, b }, {}).y;
