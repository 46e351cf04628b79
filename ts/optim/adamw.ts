import { adamw as adamwOp, gradNorm } from "../graph/ops/optimizer.ts";
import { type ScalarName, scalarNames } from "../graph/step_inputs.ts";
import type { Update } from "../model/layout.ts";
import { type GroupRule, parameterScales } from "./groups.ts";

/** The `update` Program: global gradient norm, then AdamW on every parameter, with parameter groups. What differs from step to step comes with `adamScalars`. */
export function adamw({ groups = [] }: { groups?: readonly GroupRule[] } = {}): Update {
  return (t, parameters, layout) => {
    const scales = parameterScales(parameters, groups);
    const grads = t.persistent("grad", "f32", layout.get("grad").shape);
    const loss = t.persistent("out/loss", "f32", [1]);
    const norm = t.persistent("out/norm", "f32", [1]);
    const status = t.persistent("out/status", "i32", [1]);
    t.op(gradNorm, { grads, loss }, {}, { label: "update/norm", into: { norm, status } });
    for (const p of parameters) {
      const part = (set: string) => t.persistent(`${set}/${p.name}`, "f32", p.shape);
      const into = { param: part("param"), m: part("adam_m"), v: part("adam_v") };
      const { lrScale, decayScale } = scales.get(p.name)!;
      const inputs = { grad: part("grad"), norm, status };
      t.op(adamwOp, inputs, { lrScale, decayScale }, { label: `update/${p.name}`, into });
    }
  };
}

export interface AdamScalars {
  /** 0 for the first update. */
  step: number;
  lr: number;
  beta1: number;
  beta2: number;
  /** Product of the betas of all updates so far, this one included, where they change. Default: the power of a constant. */
  beta1Product?: number;
  beta2Product?: number;
  eps: number;
  weightDecay: number;
  /** Largest global gradient norm; 0 = no clipping. */
  clip: number;
  /** Decay of the moving average of the weights, where one is kept. Default 0. */
  ema?: number | undefined;
  /** 1 / valid target tokens of the whole step. */
  lossScale: number;
}

/** The paper's constants (PAPER.md 1.1). */
export const adamDefaults = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, clip: 1 } as const;

/**
 * The scalars of one step in the order of `scalarNames`; bias corrections in float64, rounded once, of the betas as the
 * kernel has them in fp32 (so that the first update's m * bias1 is the gradient).
 */
export function adamScalars(s: AdamScalars): Float32Array {
  const t = s.step + 1;
  const { lr, eps, weightDecay, clip, lossScale } = s;
  const beta1 = Math.fround(s.beta1);
  const beta2 = Math.fround(s.beta2);
  const values: Record<ScalarName, number> = {
    lr,
    beta1,
    beta2,
    eps,
    bias1: 1 / (1 - (s.beta1Product ?? beta1 ** t)),
    bias2: 1 / (1 - (s.beta2Product ?? beta2 ** t)),
    weightDecay,
    clip,
    averageDecay: s.ema ?? 0,
    lossScale,
  };
  return Float32Array.from(scalarNames, (name) => values[name]);
}
