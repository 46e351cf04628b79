/**
 * Plays Programs in float64. Every tensor lives in one real arena at its planned address (a cell of 8 bytes for each 4
 * bytes of the plan), scratch starts as NaN, and overlapping operands that the op does not allow are refused: so mistakes
 * of the memory plan show as errors, NaN or wrong values.
 */
import { dtypeBytes, numel } from "../../ts/base/dtype.ts";
import type { ModuleSpec, Program, ProgramCommand, ProgramTensor } from "../../ts/engine/program.ts";
import { type OpRule, operandNames } from "../../ts/graph/op.ts";
import { ops } from "../../ts/graph/ops/index.ts";
import { infer, type Typed } from "../../ts/graph/shapes.ts";
import { integerNames, scalarNames } from "../../ts/graph/step_inputs.ts";
import { referenceOps, type StepInputs, type Values } from "./reference_ops.ts";

type Named = Record<string, ProgramTensor | undefined>;

const bytesOf = (t: ProgramTensor) => numel(t.shape) * dtypeBytes[t.dtype];
const overlap = (a: ProgramTensor, b: ProgramTensor) =>
  a.space === b.space && a.offset < b.offset + bytesOf(b) && b.offset < a.offset + bytesOf(a);

/** Throws unless outputs share memory with nothing but the one input they may take over, exactly. */
function checkOverlap(rule: OpRule, c: ProgramCommand, tensors: Named): void {
  for (const output of Object.keys(rule.outputs))
    for (const other of operandNames(rule)) {
      const [a, b] = [tensors[output], tensors[other]];
      if (other === output || !a || !b || !overlap(a, b)) continue;
      if (rule.inplace?.[output] === other && a.offset === b.offset && bytesOf(a) === bytesOf(b)) continue;
      throw new Error(`${c.op} (${c.label}): output ${output} overlaps ${other}: ${a.name} and ${b.name}`);
    }
}

export class ReferenceMachine {
  readonly scalars = new Float64Array(scalarNames.length).fill(Number.NaN);
  readonly integers = new Int32Array(integerNames.length);
  private readonly persistent: Float64Array;
  private readonly addresses: Map<string, { offset: number; length: number }>;

  constructor(spec: Pick<ModuleSpec, "persistentBytes" | "persistent">) {
    this.persistent = new Float64Array(spec.persistentBytes / 4);
    this.addresses = new Map(
      spec.persistent.map((t) => {
        if (t.dtype === "bf16") throw new Error(`${t.name}: the reference plays f32 Programs only`);
        return [t.name, { offset: t.offset / 4, length: numel(t.shape) }];
      }),
    );
  }

  /** The live memory of a persistent tensor. */
  tensor(name: string): Values {
    const at = this.addresses.get(name);
    if (!at) throw new Error(`no persistent tensor ${name}`);
    return this.persistent.subarray(at.offset, at.offset + at.length);
  }

  set(name: string, values: ArrayLike<number>): void {
    this.tensor(name).set(values);
  }

  setScalars(values: Partial<Record<(typeof scalarNames)[number], number>>): void {
    for (const [name, value] of Object.entries(values)) this.scalars[scalarNames.indexOf(name as "lr")] = value;
  }

  setIntegers(values: Partial<Record<(typeof integerNames)[number], number>>): void {
    for (const [name, value] of Object.entries(values))
      this.integers[integerNames.indexOf(name as "cacheLength")] = value;
  }

  play(program: Program): void {
    const scratch = new Float64Array(program.scratchBytes / 4).fill(Number.NaN);
    const step: StepInputs = { scalars: this.scalars, integers: this.integers };
    for (const c of program.commands) {
      const rule = ops.get(c.op)!;
      const tensors: Named = {};
      operandNames(rule).forEach((name, i) => {
        tensors[name] = program.tensors[c.operands[i]!];
      });
      checkOverlap(rule, c, tensors);
      const values: Record<string, Values> = {};
      for (const [name, t] of Object.entries(tensors)) {
        const arena = t?.space === "scratch" ? scratch : this.persistent;
        if (t) values[name] = arena.subarray(t.offset / 4, t.offset / 4 + numel(t.shape));
      }
      referenceOps[c.op]!(values, this.dims(rule, c, tensors), step);
    }
  }

  private dims(rule: OpRule, c: ProgramCommand, tensors: Named): Record<string, number> {
    const pick = (names: object): Record<string, Typed | undefined> =>
      Object.fromEntries(Object.keys(names).map((name) => [name, tensors[name]]));
    const attributes = Object.fromEntries(Object.keys(rule.attributes).map((name, i) => [name, c.attributes[i]!]));
    const operands = { inputs: pick(rule.inputs), outputs: pick(rule.outputs) };
    return infer(rule, c.label, operands, attributes, { precision: "f32" }).dims;
  }
}

/** Deterministic uniform numbers in [-1, 1) (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}
