import { ThalwegError } from "../base/errors.ts";
import type { InitSpec } from "../engine/module.ts";

export type ParameterKind = "embedding" | "linear" | "norm";

/** How the elements of a part start. `truncatedNormal`: N(0, 1) cut at -3 and 3, times std, as the paper's code has it. */
export type Initializer =
  | { kind: "constant"; value: number }
  | { kind: "normal"; std: number }
  | { kind: "truncatedNormal"; std: number };

/** A block of rows of a parameter that has its own name in Hugging Face checkpoints. */
export interface ParameterPart {
  hfName: string;
  rowStart: number;
  rows: number;
  init: Initializer;
}

/** A tensor that is trained. Fused matrices are one parameter made of named row blocks. */
export interface Parameter {
  /** Engine name; its persistent tensors are `param/<name>`, `grad/<name>`, `adam_m/<name>`, `adam_v/<name>`. */
  name: string;
  shape: readonly number[];
  kind: ParameterKind;
  parts: readonly ParameterPart[];
}

/** The paper's rule (PAPER.md 1.1) or that of GPT-2 (Radford et al. 2019); `std` replaces the standard deviation. */
export interface InitOptions {
  scheme: "paper" | "gpt2";
  std?: number | undefined;
}

/** One call of Module.initialize. */
export interface InitCall {
  /** Name of the persistent tensor, e.g. "param/model.layers.0.self_attn.qkv_proj.weight". */
  tensor: string;
  spec: InitSpec;
}

/** The initialisation of every part, in layout order; random numbers are keyed by the seed and the Hugging Face name. */
export function initSpecs(parameters: readonly Parameter[], seed: number, set = "param"): InitCall[] {
  return parameters.flatMap((p) =>
    p.parts.map(({ hfName, rowStart, rows, init }) => ({
      tensor: `${set}/${p.name}`,
      spec: { ...init, seed, name: hfName, rowStart, rows },
    })),
  );
}

/** Shape of a part as a tensor of its own. */
export const partShape = (p: Parameter, part: ParameterPart): readonly number[] => [part.rows, ...p.shape.slice(1)];

export const parameterElements = (p: Parameter): number => p.shape.reduce((a, b) => a * b, 1);

/** Throws BAD_PROGRAM unless the parts cover the rows of the parameter exactly once. */
export function checkParts(p: Parameter): Parameter {
  let next = 0;
  for (const part of p.parts) {
    if (part.rowStart !== next)
      throw new ThalwegError(
        "BAD_PROGRAM",
        `parameter ${p.name}: part ${part.hfName} starts at row ${part.rowStart}, expected ${next}`,
      );
    next += part.rows;
  }
  if (next !== p.shape[0])
    throw new ThalwegError("BAD_PROGRAM", `parameter ${p.name}: parts cover ${next} of ${p.shape[0]} rows`);
  return p;
}
