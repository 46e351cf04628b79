import { numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import type { NativeEngine } from "../native/addon.ts";
import { allocate, holds, type TensorData } from "./data.ts";
import { encodeProgram } from "./encode.ts";
import { asThalwegError, translated } from "./errors.ts";
import type { ModuleSpec, PersistentTensor, Program } from "./program.ts";

/** One Program to play; inputs are written before its commands, by the names of persistent tensors. */
export interface PlayEntry {
  program: string;
  /** May be shorter than the tensor: its first elements are written. Copied at call time. */
  inputs?: Record<string, Int32Array | Float32Array>;
  /** In the order of scalarNames; zeros when absent. */
  scalars?: Float32Array;
  /** In the order of integerNames; zeros when absent. */
  integers?: Int32Array;
}

export interface PlayOptions {
  /** Stops after the command in flight and rejects with CANCELLED; tensors are then as the finished commands left them. */
  signal?: AbortSignal;
  /** Seconds of each command, in order. */
  profile?: boolean;
}

export interface PlayResult {
  seconds: number;
  profile?: { label: string; op: string; seconds: number }[];
}

/**
 * Initial values. Element i of the range depends only on (seed, name, i): Philox4x32-10, same bits on every machine.
 * truncatedNormal is cut at 3 standard deviations.
 */
export interface InitSpec {
  kind: "truncatedNormal" | "normal" | "constant";
  std?: number;
  value?: number;
  seed: number;
  name: string;
  /** Rows of the tensor to fill (all); element 0 of the stream is the first of them. */
  rowStart?: number;
  rows?: number;
}

/** One tensor of a file: a row range of a module tensor (all rows when absent), under its name and shape there. */
export interface FileEntry {
  name: string;
  tensor: string;
  rowStart?: number;
  rows?: number;
  /** Shape in the file, as many elements; the shape of the rows when absent. */
  shape?: number[];
}

let nextPlay = 1;

/** Persistent tensors on the device and the Programs bound to them; made by Engine.load. */
export class Module {
  readonly spec: ModuleSpec;
  readonly #native: NativeEngine;
  readonly #id: number;
  readonly #engineAlive: () => void;
  readonly #tensors: Map<string, PersistentTensor>;
  #disposed: Promise<void> | undefined;

  /** Not for callers: see Engine.load. */
  constructor(native: NativeEngine, id: number, spec: ModuleSpec, engineAlive: () => void) {
    this.#native = native;
    this.#id = id;
    this.spec = spec;
    this.#engineAlive = engineAlive;
    this.#tensors = new Map(spec.persistent.map((t) => [t.name, t]));
  }

  /** Adds Programs; scratch memory grows to the greediest. Errors: BAD_PROGRAM (also for a name taken), OUT_OF_MEMORY. */
  async attach(programs: readonly Program[]): Promise<void> {
    this.#alive();
    const encoded = programs.map(encodeProgram);
    await translated(() => this.#native.attach(this.#id, encoded));
  }

  /** Plays the entries in order, as one piece. Errors: BAD_INPUT, CANCELLED, DISPOSED, and those of kernels. */
  async play(entries: readonly PlayEntry[], options: PlayOptions = {}): Promise<PlayResult> {
    this.#alive();
    for (const entry of entries) for (const [name, data] of Object.entries(entry.inputs ?? {})) this.#check(name, data);
    const { signal } = options;
    if (signal?.aborted) throw cancelled(signal);
    const id = nextPlay++;
    const cancel = () => this.#native.cancel(id);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return (await this.#native.play(this.#id, [...entries], options.profile ?? false, id)) as PlayResult;
    } catch (error) {
      if (signal?.aborted && (error as { code?: unknown }).code === "CANCELLED") throw cancelled(signal);
      throw asThalwegError(error);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** Writes the first data.length elements of a persistent tensor; derived copies follow by themselves. Copied at call time. */
  async write(name: string, data: TensorData): Promise<void> {
    this.#alive();
    this.#check(name, data);
    await translated(() => this.#native.write(this.#id, name, data));
  }

  /** A copy of a persistent tensor, after everything asked before. */
  async read(name: string): Promise<TensorData> {
    this.#alive();
    const tensor = this.#tensor(name);
    const data = allocate(tensor.dtype, numel(tensor.shape));
    await translated(() => this.#native.read(this.#id, name, data));
    return data;
  }

  async initialize(tensor: string, spec: InitSpec): Promise<void> {
    this.#alive();
    this.#tensor(tensor);
    if (!Number.isSafeInteger(spec.seed) || spec.seed < 0)
      throw new ThalwegError("BAD_INPUT", `seed is ${spec.seed}, expected a whole number from 0 to 2^53 - 1.`);
    if (spec.kind !== "constant" && !Number.isFinite(spec.std))
      throw new ThalwegError(
        "BAD_INPUT",
        `initializing ${tensor} (${spec.kind}) needs a finite std, found ${spec.std}.`,
      );
    const { kind, seed, name, std = 0, value = 0, rowStart = 0, rows = -1 } = spec;
    await translated(() => this.#native.initialize(this.#id, tensor, { kind, seed, name, std, value, rowStart, rows }));
  }

  /** Rebuilds every derived copy of the parameters (packed, bf16). Only needed to have it done before the next play. */
  async refresh(): Promise<void> {
    this.#alive();
    await translated(() => this.#native.refresh(this.#id));
  }

  /** Copies tensors as they are after everything asked before; later steps do not change the copy. */
  async snapshot(tensors: readonly string[]): Promise<Snapshot> {
    this.#alive();
    for (const name of tensors) this.#tensor(name);
    const held = await translated(() => this.#native.snapshot(this.#id, [...tensors]));
    return new Snapshot(this.#native, held, this.#engineAlive);
  }

  /**
   * Fills row ranges of tensors from a safetensors file; f32 tensors also from BF16 and F16. The file is checked as a
   * whole before anything changes. Errors: CORRUPT_CHECKPOINT (names file and tensor), IO_ERROR, BAD_INPUT.
   */
  async loadFile(path: string, entries: readonly FileEntry[]): Promise<void> {
    this.#alive();
    await translated(() => this.#native.loadFile(this.#id, path, [...entries]));
  }

  /** Frees the memory after everything asked before. */
  dispose(): Promise<void> {
    if (!this.#disposed) {
      this.#engineAlive();
      this.#disposed = translated(() => this.#native.dropModule(this.#id));
    }
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #alive(): void {
    this.#engineAlive();
    if (this.#disposed) throw new ThalwegError("DISPOSED", "the module was disposed.");
  }

  #tensor(name: string): PersistentTensor {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new ThalwegError("BAD_INPUT", `the module has no tensor named ${name}.`);
    return tensor;
  }

  #check(name: string, data: TensorData): void {
    const tensor = this.#tensor(name);
    const elements = numel(tensor.shape);
    if (!holds(tensor.dtype, data) || data.length > elements)
      throw new ThalwegError(
        "BAD_INPUT",
        `${name} is ${tensor.dtype} [${tensor.shape.join(", ")}] (at most ${elements} elements of ${allocate(tensor.dtype, 0).constructor.name}), found ${(data as unknown)?.constructor?.name ?? data} of ${data?.length}.`,
      );
  }
}

function cancelled(signal: AbortSignal): ThalwegError {
  return new ThalwegError("CANCELLED", "the play was cancelled.", { cause: signal.reason });
}

/** Copies of tensors at one moment. Held in memory until disposed (or collected). */
export class Snapshot {
  readonly #native: NativeEngine;
  readonly #engineAlive: () => void;
  #held: object | undefined;

  /** Not for callers: see Module.snapshot. */
  constructor(native: NativeEngine, held: object, engineAlive: () => void) {
    this.#native = native;
    this.#held = held;
    this.#engineAlive = engineAlive;
  }

  /**
   * Writes and syncs a safetensors file, on its own thread. The caller gives a temporary name and renames: after an
   * error (IO_ERROR with the system's reason) the partial file is gone.
   */
  async writeSafetensors(
    path: string,
    entries: readonly FileEntry[],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<{ bytes: number }> {
    this.#engineAlive();
    const held = this.#held;
    if (!held) throw new ThalwegError("DISPOSED", "the snapshot was disposed.");
    const bytes = await translated(() => this.#native.writeFile(held, path, [...entries], { ...metadata }));
    return { bytes };
  }

  /** Lets the memory go, when a write under way has ended. */
  dispose(): void {
    if (this.#held) this.#native.dropSnapshot(this.#held);
    this.#held = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
