import { attention, attentionDecode, embedding, linear, qkNorm, rmsnorm, rope, swiglu } from "../graph/functions.ts";
import type { Tape, Tensor } from "../graph/tape.ts";
import { checkParts, type Initializer, type InitOptions, type Parameter, type ParameterPart } from "./parameters.ts";

export interface LlamaConfig {
  vocab: number;
  dim: number;
  layers: number;
  heads: number;
  /** Key/value heads: `heads` for multi-head attention, fewer for grouped queries (Ainslie et al. 2023). */
  kvHeads: number;
  headDim: number;
  /** Width of the gated MLP. */
  ffn: number;
  /** Longest sequence: rows of the rotary table and of the key/value cache. */
  maxLength: number;
  ropeTheta: number;
  normEps: number;
  /** The output matrix is the embedding. */
  tied: boolean;
  /** RMSNorm of each query and key head before the rotation. */
  qkNorm: boolean;
  /** Weight of lse^2 in the loss (PaLM, Chowdhery et al. 2022); 0 = none. */
  zLoss: number;
  init: InitOptions;
}

/** How the attention of a forward pass sees other positions. */
export type Context =
  | { kind: "sequences"; length: number; table: Tensor; starts?: Tensor | undefined }
  | { kind: "cache"; table: Tensor; caches: readonly { kCache: Tensor; vCache: Tensor }[] };

/** LLaMA decoder (Touvron et al. 2023): pre-norm blocks of causal attention and a gated MLP. tokens [rows] -> hidden [rows, dim]. */
export function llama(t: Tape, c: LlamaConfig, tokens: Tensor, context: Context): Tensor {
  let x = embedding(t.param("model.embed_tokens.weight", [c.vocab, c.dim]), tokens);
  for (let i = 0; i < c.layers; i++) x = t.block(`model.layers.${i}`, (layer) => block(layer, c, i, x, context));
  return rmsnorm(x, t.param("model.norm.weight", [c.dim]), { eps: c.normEps });
}

/** The matrix of the head: [vocab, dim]. */
export const headWeight = (t: Tape, c: LlamaConfig): Tensor =>
  t.param(c.tied ? "model.embed_tokens.weight" : "lm_head.weight", [c.vocab, c.dim]);

function block(t: Tape, c: LlamaConfig, index: number, x: Tensor, context: Context): Tensor {
  const { dim, ffn, heads, kvHeads, headDim } = c;
  const eps = c.normEps;
  const attn = t.scope("self_attn");
  const mlp = t.scope("mlp");

  let h = rmsnorm(x, t.param("input_layernorm.weight", [dim]), { eps });
  let qkv = linear(h, attn.param("qkv_proj.weight", [(heads + 2 * kvHeads) * headDim, dim]));
  if (c.qkNorm)
    qkv = qkNorm(qkv, attn.param("q_norm.weight", [headDim]), attn.param("k_norm.weight", [headDim]), { ...c, eps });
  const y = attend(qkv, c, index, context);
  x = linear(y, attn.param("o_proj.weight", [dim, heads * headDim]), { residual: x });

  h = rmsnorm(x, t.param("post_attention_layernorm.weight", [dim]), { eps });
  const a = swiglu(linear(h, mlp.param("gate_up_proj.weight", [2 * ffn, dim])));
  return linear(a, mlp.param("down_proj.weight", [dim, ffn]), { residual: x });
}

function attend(qkv: Tensor, c: LlamaConfig, index: number, context: Context): Tensor {
  if (context.kind === "cache")
    return attentionDecode(rope(qkv, context.table, { ...c, seq: 1 }), context.caches[index]!, c);
  const { length: seq, starts } = context;
  return attention(rope(qkv, context.table, { ...c, seq }), { ...c, seq, starts });
}

/** Rotary table [maxLength, headDim]: cos of position * theta^(-2i / headDim), i < headDim / 2, then sin; rounded once from float64. */
export function ropeTable({ maxLength, headDim, ropeTheta }: LlamaConfig): Float32Array {
  const half = headDim / 2;
  const table = new Float32Array(maxLength * headDim);
  for (let p = 0; p < maxLength; p++)
    for (let i = 0; i < half; i++) {
      const angle = p * ropeTheta ** (-(2 * i) / headDim);
      table[p * headDim + i] = Math.cos(angle);
      table[p * headDim + half + i] = Math.sin(angle);
    }
  return table;
}

/** All parameters in layout order: embedding, blocks in order, final norm, head. */
export function llamaParameters(c: LlamaConfig): Parameter[] {
  const whole = (name: string, shape: number[], kind: Parameter["kind"], init: Initializer): Parameter => ({
    name,
    shape,
    kind,
    parts: [{ hfName: name, rowStart: 0, rows: shape[0]!, init }],
  });
  const norm = (name: string, n: number) => whole(name, [n], "norm", { kind: "constant", value: 1 });
  const layers = Array.from({ length: c.layers }, (_, i) => blockParameters(c, `model.layers.${i}`, norm)).flat();
  return [
    whole("model.embed_tokens.weight", [c.vocab, c.dim], "embedding", linearInit(c, c.dim, false)),
    ...layers,
    norm("model.norm.weight", c.dim),
    ...(c.tied ? [] : [whole("lm_head.weight", [c.vocab, c.dim], "linear", linearInit(c, c.dim, false))]),
  ].map(checkParts);
}

function blockParameters(c: LlamaConfig, prefix: string, norm: (name: string, n: number) => Parameter): Parameter[] {
  const { dim, ffn, heads, kvHeads, headDim } = c;
  const matrix = (name: string, columns: number, parts: [string, number][], residual = false): Parameter => {
    let rowStart = 0;
    const blocks = parts.map(([part, rows]): ParameterPart => {
      const block = { hfName: `${prefix}.${part}.weight`, rowStart, rows, init: linearInit(c, columns, residual) };
      rowStart += rows;
      return block;
    });
    return { name: `${prefix}.${name}.weight`, shape: [rowStart, columns], kind: "linear", parts: blocks };
  };
  const qkv: [string, number][] = [
    ["self_attn.q_proj", heads * headDim],
    ["self_attn.k_proj", kvHeads * headDim],
    ["self_attn.v_proj", kvHeads * headDim],
  ];
  const gateUp: [string, number][] = [
    ["mlp.gate_proj", ffn],
    ["mlp.up_proj", ffn],
  ];
  const headNorms = ["q_norm", "k_norm"].map((name) => norm(`${prefix}.self_attn.${name}.weight`, headDim));
  return [
    norm(`${prefix}.input_layernorm.weight`, dim),
    matrix("self_attn.qkv_proj", dim, qkv),
    ...(c.qkNorm ? headNorms : []),
    matrix("self_attn.o_proj", heads * headDim, [["self_attn.o_proj", dim]], true),
    norm(`${prefix}.post_attention_layernorm.weight`, dim),
    matrix("mlp.gate_up_proj", dim, gateUp),
    matrix("mlp.down_proj", ffn, [["mlp.down_proj", dim]], true),
  ];
}

/**
 * `paper`: truncated normal of std 1 / sqrt(fan in); the embedding's 1 / sqrt(dim) is the same rule over its columns.
 * `gpt2`: normal 0.02, matrices that write into the residual stream scaled by 1 / sqrt(2 layers).
 */
function linearInit(c: LlamaConfig, fanIn: number, residual: boolean): Initializer {
  const { scheme, std } = c.init;
  if (scheme === "paper") return { kind: "truncatedNormal", std: std ?? 1 / Math.sqrt(fanIn) };
  return { kind: "normal", std: (std ?? 0.02) * (residual ? 1 / Math.sqrt(2 * c.layers) : 1) };
}
