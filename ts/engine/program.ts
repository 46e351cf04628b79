import type { DType } from "../base/dtype.ts";

/** Where a tensor of a Program lives: `persistent` addresses never move; `scratch` is planned per Program by liveness. */
export type Space = "persistent" | "scratch";

export interface ProgramTensor {
  /** Unique within its Program; for persistent tensors the name in the Module, with the rows of a view: "io/tokens[0:1024]". */
  name: string;
  dtype: DType;
  shape: readonly number[];
  space: Space;
  /** Bytes from the start of its arena, a multiple of the element size (64-byte aligned unless it is a view). */
  offset: number;
}

/** One kernel call. Operands are indices into `tensors`, inputs then outputs as declared; -1 = an absent optional one. */
export interface ProgramCommand {
  op: string;
  /** Where it stems from, e.g. "model.layers.3.mlp.down_proj" or "backward/model.norm"; shown in errors and listings. */
  label: string;
  operands: readonly number[];
  /** In declared order. */
  attributes: readonly number[];
}

/** A flat list of kernel calls over one arena: what the engine plays. */
export interface Program {
  /** Its key, e.g. "accumulate" or "evaluate/b4xt128". */
  name: string;
  tensors: readonly ProgramTensor[];
  commands: readonly ProgramCommand[];
  scratchBytes: number;
}

/** A tensor whose address never moves: parameter, gradient, optimizer state, input, output, constant. */
export interface PersistentTensor {
  name: string;
  dtype: DType;
  shape: readonly number[];
  offset: number;
}

/** What the engine loads: persistent tensors (zeroed) and named Programs; more Programs can be attached later. */
export interface ModuleSpec {
  persistentBytes: number;
  persistent: readonly PersistentTensor[];
  programs: readonly Program[];
}

/** Arena alignment: a cache line, also what the vector kernels and tensor maps want. */
export const ALIGNMENT = 64;
