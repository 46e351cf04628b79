import type { DType } from "../../ts/base/dtype.ts";
import { dtypeBytes, numel } from "../../ts/base/dtype.ts";
import type { ModuleSpec, Program, ProgramTensor } from "../../ts/engine/program.ts";
import { integerNames, scalarNames } from "../../ts/graph/step_inputs.ts";

/** A command by tensor names: [op, operand names (null = absent), attributes]. */
export type Line = [op: string, operands: (string | null)[], attributes?: number[]];

/** Writes Modules by hand: tensors by name, Programs as lists of lines. */
export class ModuleBuilder {
  #persistent: ProgramTensor[] = [];
  #bytes = 0;
  #programs: Program[] = [];

  tensor(name: string, dtype: DType, shape: number[]): this {
    this.#persistent.push({ name, dtype, shape, space: "persistent", offset: this.#bytes });
    this.#bytes += Math.ceil((numel(shape) * dtypeBytes[dtype]) / 64) * 64;
    return this;
  }

  /** A Program of this Module; `extra` are scratch tensors, or views of persistent ones. */
  write(name: string, lines: Line[], extra: ProgramTensor[] = []): Program {
    const tensors = [...this.#persistent, ...extra];
    const index = (operand: string | null) => {
      const at = operand === null ? -1 : tensors.findIndex((t) => t.name === operand);
      if (operand !== null && at < 0) throw new Error(`test Program ${name} names no tensor ${operand}`);
      return at;
    };
    const scratch = extra.filter((t) => t.space === "scratch");
    return {
      name,
      tensors,
      commands: lines.map(([op, operands, attributes = []], i) => ({
        op,
        label: `line ${i}`,
        operands: operands.map(index),
        attributes,
      })),
      scratchBytes: Math.max(0, ...scratch.map((t) => t.offset + numel(t.shape) * dtypeBytes[t.dtype])),
    };
  }

  program(name: string, lines: Line[], extra: ProgramTensor[] = []): this {
    this.#programs.push(this.write(name, lines, extra));
    return this;
  }

  spec(): ModuleSpec {
    return { persistentBytes: this.#bytes, persistent: this.#persistent, programs: this.#programs };
  }
}

export const scalars = (values: Partial<Record<(typeof scalarNames)[number], number>>): Float32Array =>
  Float32Array.from(scalarNames, (name) => values[name] ?? 0);
export const integers = (values: Partial<Record<(typeof integerNames)[number], number>>): Int32Array =>
  Int32Array.from(integerNames, (name) => values[name] ?? 0);

/** A Module whose Program "some" adds 1 to `big` a hundred times. */
export function longModule(): ModuleSpec {
  const lines: Line[] = Array.from({ length: 100 }, () => ["axpy", ["one", "big"], [1]]);
  return new ModuleBuilder()
    .tensor("big", "f32", [1 << 20])
    .tensor("one", "f32", [1 << 20])
    .program("some", lines)
    .program("short", [["fill", ["big"], [2]]])
    .spec();
}

/** A play of longModule() that takes minutes unless it is stopped. */
export const longPlay = () => Array.from({ length: 5000 }, () => ({ program: "some" }));

/** mulberry32: numbers in [-1, 1) from a seed that the test logs. */
export function randoms(seed: number, count: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}
