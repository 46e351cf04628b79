import type { GradientSums, Recompute } from "../graph/autograd.ts";
import type { Layout } from "../graph/layout.ts";
import type { Reuse } from "../graph/plan.ts";
import type { Precision, Tape } from "../graph/tape.ts";
import type { LlamaConfig } from "./llama.ts";
import type { Parameter } from "./parameters.ts";

/**
 * `accumulate` forward and backward of a micro-batch; `update` one optimizer step; `evaluate` token losses and their sum;
 * `decode` one new token against a cache; `logits` all logits of a batch, for analysis and parity tests; `average` moves a
 * parameter set towards the weights.
 */
export type ProgramKind = "accumulate" | "update" | "evaluate" | "decode" | "logits" | "average";

/** A Program to build against a layout. */
export interface ProgramRequest {
  kind: ProgramKind;
  batch?: number;
  length?: number;
  /** Parameters it reads, default "param"; for `average` those it writes. `accumulate` and `update` always train "param". */
  parameterSet?: string;
  /** Default: the kind, then batch and length, then the set: "evaluate/b4xt128/ema". */
  name?: string;
}

/** Records the `update` Program; ts/optim has them. */
export type Update = (t: Tape, parameters: readonly Parameter[], layout: Layout) => void;

/** What a position sees before it: its whole sequence, or only its own document, by the positions in io/starts. */
export type AttentionScope = "sequence" | "documents";

export interface BuildOptions {
  precision: Precision;
  /** Sequences of one `accumulate`. */
  microBatch: number;
  /** Tokens of one sequence. */
  length: number;
  /** Sequences of one `evaluate` (default: microBatch) and their length (default: length). */
  evalBatch?: number | undefined;
  evalLength?: number | undefined;
  recompute?: Recompute | undefined;
  /** Default: ordered, the same bits always. */
  gradientSums?: GradientSums | undefined;
  /** Default: sequence. */
  attention?: AttentionScope | undefined;
  /** Rows of logits alive at one time; default by a budget of bytes, see graph/head.ts. */
  headChunkRows?: number | undefined;
  /** Default: accumulate, update, evaluate, decode. Gradients and moments are laid out only when trained. */
  kinds?: readonly ProgramKind[] | undefined;
  /** Programs beside those, of other lengths or parameter sets. */
  programs?: readonly ProgramRequest[] | undefined;
  /** Needed for `update`. */
  update?: Update | undefined;
  /** Rows that io tensors have room for, when Programs with larger batches are to be attached later. */
  capacityRows?: number | undefined;
  /** More parameter sets of the same layout, e.g. ["ema"]. */
  parameterSets?: readonly string[] | undefined;
  reuse?: Reuse | undefined;
  /** One command for a product and what follows it, where there is one (graph/fuse.ts). Default: in bf16. Same bits. */
  fuse?: boolean | undefined;
}

/** What Programs of one Module share. */
export interface ModelLayout {
  readonly config: LlamaConfig;
  readonly parameters: readonly Parameter[];
  readonly layout: Layout;
  readonly options: BuildOptions;
}
