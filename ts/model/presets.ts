import { ThalwegError } from "../base/errors.ts";
import type { LlamaConfig } from "./llama.ts";
import { llamaParameters } from "./llama.ts";
import { parameterElements } from "./parameters.ts";

type Given = Pick<LlamaConfig, "vocab" | "dim" | "layers" | "heads" | "ffn" | "maxLength"> & Partial<LlamaConfig>;

/** Fills in what the paper's models share: full multi-head attention, theta 10000, eps 1e-5, untied, no z-loss. */
export function llamaConfig(given: Given): LlamaConfig {
  const config: LlamaConfig = {
    kvHeads: given.heads,
    headDim: given.dim / given.heads,
    ropeTheta: 10000,
    normEps: 1e-5,
    tied: false,
    qkNorm: false,
    zLoss: 0,
    init: { scheme: "paper" },
    ...given,
  };
  checkConfig(config);
  return config;
}

/** Throws BAD_CONFIG naming the field. */
export function checkConfig(c: LlamaConfig): void {
  const fields = ["vocab", "dim", "layers", "heads", "kvHeads", "headDim", "ffn", "maxLength"] as const;
  for (const field of fields)
    if (!Number.isInteger(c[field]) || c[field] < 1)
      throw new ThalwegError("BAD_CONFIG", `model.${field} is ${c[field]}, expected a positive integer`);
  if (c.heads % c.kvHeads !== 0)
    throw new ThalwegError("BAD_CONFIG", `model.kvHeads is ${c.kvHeads}, which does not divide heads = ${c.heads}`);
  if (c.headDim % 2 !== 0)
    throw new ThalwegError("BAD_CONFIG", `model.headDim is ${c.headDim}; rotary embedding needs an even number`);
}

const gpt2Vocab = 50257;
const llama2Vocab = 32000;

/** Named sizes. The paper's are those of PAPER.md 1.1 (Llama-2 tokenizer); 124m has the shape of GPT-2 small. */
export const presets: Readonly<Record<string, LlamaConfig>> = {
  quickstart: llamaConfig({ vocab: 256, dim: 64, layers: 3, heads: 4, ffn: 168, maxLength: 128 }),
  "1m": llamaConfig({ vocab: 256, dim: 128, layers: 5, heads: 4, ffn: 344, maxLength: 256 }),
  "10m": llamaConfig({ vocab: 8192, dim: 256, layers: 8, heads: 4, ffn: 704, maxLength: 256 }),
  "124m": llamaConfig({ vocab: gpt2Vocab, dim: 768, layers: 12, heads: 12, ffn: 2048, maxLength: 1024, tied: true }),
  "paper-0.1b": llamaConfig({ vocab: llama2Vocab, dim: 768, layers: 12, heads: 12, ffn: 3072, maxLength: 4096 }),
  "paper-0.3b": llamaConfig({ vocab: llama2Vocab, dim: 1024, layers: 24, heads: 16, ffn: 2048, maxLength: 4096 }),
  "paper-0.6b": llamaConfig({ vocab: llama2Vocab, dim: 1536, layers: 24, heads: 32, ffn: 6144, maxLength: 4096 }),
  "paper-1.2b": llamaConfig({ vocab: llama2Vocab, dim: 2048, layers: 16, heads: 16, ffn: 8192, maxLength: 2048 }),
};

/** A preset with fields replaced. Throws BAD_CONFIG listing the names when there is no such preset. */
export function preset(name: string, changes: Partial<LlamaConfig> = {}): LlamaConfig {
  const base = presets[name];
  if (!base)
    throw new ThalwegError(
      "BAD_CONFIG",
      `model.preset is "${name}", expected one of ${Object.keys(presets).join(", ")}`,
    );
  const config = { ...base, ...changes };
  checkConfig(config);
  return config;
}

export interface ModelCounts {
  /** All trained values, a tied embedding once. */
  parameters: number;
  /** Without the embedding and, when untied, the head: as scaling laws count. */
  nonEmbedding: number;
  /** Values that take part in matrix products, the head included: what FLOPs follow. */
  matmul: number;
}

export function counts(c: LlamaConfig): ModelCounts {
  const all = llamaParameters(c);
  const sum = (wanted: typeof all) => wanted.reduce((n, p) => n + parameterElements(p), 0);
  const table = c.vocab * c.dim;
  const parameters = sum(all);
  return {
    parameters,
    nonEmbedding: parameters - table * (c.tied ? 1 : 2),
    matmul: sum(all.filter((p) => p.kind === "linear")) + (c.tied ? table : 0),
  };
}

/**
 * Training FLOPs of one token at sequence length T: 6 N + 6 layers heads headDim T, N = values in matrix products (2 N
 * forward, 4 N backward). Attention: two products of headDim over T / 2 positions on average (causal, counted once), 2 FLOPs
 * each, three times for forward and backward. Recomputed work is not counted, as is usual for model FLOPs utilisation. Inside
 * documents T is the mean, over tokens, of the length of the piece of a document in which each lies: n tokens have n^2 / 2 pairs,
 * so pieces of n_1, n_2, ... have as many as sequences of T = (n_1^2 + n_2^2 + ...) / (n_1 + n_2 + ...).
 */
export const flopsPerToken = (c: LlamaConfig, length: number): number =>
  6 * counts(c).matmul + 6 * c.layers * c.heads * c.headDim * length;
