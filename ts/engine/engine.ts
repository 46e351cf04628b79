import { type DeviceChoice, deviceChoices } from "../base/device.ts";
import { type DType, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import { type Addon, addon, type NativeEngine } from "../native/addon.ts";
import { allocate, holds, type TensorData } from "./data.ts";
import { encodeLayout, encodeProgram } from "./encode.ts";
import { asThalwegError, translated } from "./errors.ts";
import { Module } from "./module.ts";
import type { ModuleSpec } from "./program.ts";

export type { TensorData } from "./data.ts";
export {
  type FileEntry,
  type InitSpec,
  Module,
  type PlayEntry,
  type PlayOptions,
  type PlayResult,
  Snapshot,
} from "./module.ts";

export interface EngineOptions {
  /** "auto" (default) takes the best device of this build; a named device is that one or Error NO_DEVICE. */
  device?: DeviceChoice;
  /** CPU threads, 0 or absent: every CPU this process may use. Results do not depend on it. */
  threads?: number;
}

export interface DeviceInfo {
  device: Exclude<DeviceChoice, "auto">;
  name: string;
  /** Instruction path: portable, avx2, avx512 or amx; of a GPU its architecture, e.g. sm_90. */
  path: string;
  threads: number;
  memoryBytes: number;
  /** Same class and same config give the same bits, e.g. "cpu-amx", "cuda-sm_90-132". */
  deviceClass: string;
}

export interface OpOperand {
  dtype: DType;
  shape: readonly number[];
  /** Starts from zeros when absent. */
  data?: TensorData;
}

export interface OpOptions {
  scalars?: Float32Array;
  integers?: Int32Array;
  /** Calls of the kernel (1): each is timed; accumulators accumulate over them. */
  repeat?: number;
  /** Weights prepared in the kernels' layout before the calls, as in a Module (false: the kernel packs them itself). */
  packed?: boolean;
}

export interface OpResult {
  /** Every operand's data after the calls, null for absent operands. */
  operands: (TensorData | null)[];
  seconds: number[];
}

const dtypeCodes: Record<DType, number> = { f32: 0, bf16: 1, i32: 2 };

function threadsOf(options: EngineOptions): number {
  const threads = options.threads ?? 0;
  if (!Number.isInteger(threads) || threads < 0 || threads > 1024)
    throw new ThalwegError("BAD_OPTION", `threads is ${threads}, expected a whole number from 0 (all) to 1024.`);
  return threads;
}

function deviceOf(options: EngineOptions): DeviceChoice {
  const device = options.device ?? "auto";
  if (!deviceChoices.includes(device))
    throw new ThalwegError(
      "BAD_OPTION",
      `device is ${JSON.stringify(device)}, expected one of ${deviceChoices.join(", ")}.`,
    );
  return device;
}

/**
 * A device with its driver thread. Everything asked of it and its Modules is done in the order asked, off the event
 * loop; promises reject with ThalwegError. A pending promise keeps the process alive, an idle engine does not.
 */
export class Engine {
  readonly info: DeviceInfo;
  readonly #native: NativeEngine;
  #disposed: Promise<void> | undefined;

  private constructor(native: NativeEngine) {
    this.#native = native;
    this.info = native.info() as unknown as DeviceInfo;
  }

  /** Errors: NO_DEVICE, NO_ADDON, BAD_OPTION. */
  static async create(options: EngineOptions = {}): Promise<Engine> {
    const device = deviceOf(options);
    const threads = threadsOf(options);
    const { NativeEngine: Native } = addon();
    return translated(async () => new Engine(new Native(device, threads)));
  }

  /** Allocates the persistent tensors (zeroed) and binds the Programs. Errors: BAD_PROGRAM, OUT_OF_MEMORY. */
  async load(spec: ModuleSpec): Promise<Module> {
    this.#alive();
    const programs = spec.programs.map(encodeProgram);
    const id = await translated(() => this.#native.load(encodeLayout(spec), programs));
    return new Module(this.#native, id, spec, () => this.#alive());
  }

  /** Calls one op alone on operands given as arrays, in declared order (inputs, then outputs; null = absent). */
  async runOp(
    op: string,
    operands: readonly (OpOperand | null)[],
    attributes: readonly number[],
    options: OpOptions = {},
  ): Promise<OpResult> {
    this.#alive();
    const data = operands.map((o, i) => (o ? operandData(op, o, i) : null));
    const repeat = options.repeat ?? 1;
    if (!Number.isInteger(repeat) || repeat < 0)
      throw new ThalwegError("BAD_INPUT", `${op}: repeat is ${repeat}, expected a whole number.`);
    const call = {
      op,
      operands: operands.map((o, i) => (o ? { dtype: dtypeCodes[o.dtype], shape: [...o.shape], data: data[i] } : null)),
      attributes: [...attributes],
      scalars: options.scalars,
      integers: options.integers,
      repeat,
      packed: options.packed ?? false,
    };
    const seconds = await translated(() => this.#native.runOp(call));
    return { operands: data, seconds };
  }

  /**
   * Cancels what is under way or queued (CANCELLED), lets files being written come to their end, frees the memory.
   * Afterwards every call gives DISPOSED. May be called again.
   */
  dispose(): Promise<void> {
    this.#disposed ??= translated(async () => {
      const native = this.#native;
      await native.freeDevice();
      await native.finishFiles();
      native.close();
    });
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new ThalwegError("DISPOSED", "the engine was disposed.");
  }
}

/** A fresh array that the engine reads and writes in place. */
function operandData(op: string, operand: OpOperand, index: number): TensorData {
  const elements = numel(operand.shape);
  const data = allocate(operand.dtype, elements);
  if (operand.data === undefined) return data;
  if (!holds(operand.dtype, operand.data) || operand.data.length !== elements)
    throw new ThalwegError(
      "BAD_INPUT",
      `${op}: operand ${index} is ${operand.data.constructor.name} of ${operand.data.length}, expected ${data.constructor.name} of ${elements} (${operand.dtype} [${operand.shape.join(", ")}]).`,
    );
  data.set(operand.data);
  return data;
}

export interface MemoryPlan {
  /** What the greediest kernel needs besides its operands. */
  workspaceBytes: number;
  /** Copies of the weights in the kernels' layout. */
  packedBytes: number;
  /** Activations of the greediest Program. */
  scratchBytes: number;
  persistentBytes: number;
  /** The same inputs give the same bits; false where some kernel adds in any order. */
  repeatable: boolean;
}

/** What loading a Module would take, without allocating anything. Checks the Programs as load does. */
export function planMemory(spec: ModuleSpec, options: EngineOptions = {}): MemoryPlan {
  const device = deviceOf(options);
  const threads = threadsOf(options);
  const native: Addon = addon();
  try {
    const plan = native.planMemory(encodeLayout(spec), spec.programs.map(encodeProgram), device, threads);
    return plan as unknown as MemoryPlan;
  } catch (error) {
    throw asThalwegError(error);
  }
}

/** The instruction path in use (THALWEG_CPU forces one), the best this processor offers, CPUs this process may use. */
export function cpuFeatures(): { path: string; best: string; cpus: number } {
  try {
    return addon().cpuFeatures();
  } catch (error) {
    throw asThalwegError(error);
  }
}
