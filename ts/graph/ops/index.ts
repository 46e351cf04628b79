import type { OpRule } from "../op.ts";
import * as attention from "./attention.ts";
import * as classifier from "./classifier.ts";
import * as elementwise from "./elementwise.ts";
import * as embedding from "./embedding.ts";
import * as linear from "./linear.ts";
import * as linearSwiglu from "./linear_swiglu.ts";
import * as optimizer from "./optimizer.ts";
import * as rmsnorm from "./rmsnorm.ts";
import * as rope from "./rope.ts";
import * as swiglu from "./swiglu.ts";

/** Every op, by family (a family is a file here, in native/cpu/kernels and in native/cuda). */
export const families: Readonly<Record<string, Readonly<Record<string, OpRule>>>> = {
  embedding,
  rmsnorm,
  linear,
  linear_swiglu: linearSwiglu,
  rope,
  attention,
  swiglu,
  classifier,
  optimizer,
  elementwise,
};

/** Op rules by name. */
export const ops: ReadonlyMap<string, OpRule> = new Map(
  Object.values(families).flatMap((family) => Object.values(family).map((rule) => [rule.name, rule] as const)),
);
