import { ThalwegError } from "../base/errors.ts";
import type { Batch } from "../data/loader.ts";
import type { Engine } from "../engine/engine.ts";
import type { FileEntry, Module, PlayEntry } from "../engine/module.ts";
import { type IntegerName, integerNames } from "../graph/step_inputs.ts";
import type { BuildOptions, BuiltModule } from "../model/build.ts";
import { initSpecs, type Parameter, partShape } from "../model/parameters.ts";
import { type AdamScalars, adamScalars } from "../optim/adamw.ts";
import type { EvaluatedWeights, LossSum, Machine, StateSnapshot, StepNumbers, UpdateScalars } from "./machine.ts";

/** What adamScalars needs beside the step, its rate and its tokens. */
export type OptimizerConstants = Omit<AdamScalars, "step" | "lr" | "lossScale">;

const noScalars = { lr: 0, step: 0 };

/** Integers of a play entry by name, in the order of the contract. */
export const playIntegers = (values: Partial<Record<IntegerName, number>>): Int32Array =>
  Int32Array.from(integerNames, (name) => values[name] ?? 0);

/** The parts of all parameters as rows of a safetensors file, of one parameter set. */
export function fileEntries(parameters: readonly Parameter[], set: string, prefix = ""): FileEntry[] {
  return parameters.flatMap((p) =>
    p.parts.map((part) => ({
      name: prefix + part.hfName,
      tensor: `${set}/${p.name}`,
      rowStart: part.rowStart,
      rows: part.rows,
      shape: [...partShape(p, part)],
    })),
  );
}

const moments = ["adam_m", "adam_v"] as const;
/** Parameter set of the moving average of the weights. */
export const averageSet = "ema";

/** Programs and tensors that a moving average needs. */
export const averageOptions = {
  parameterSets: [averageSet],
  programs: [
    { kind: "average", parameterSet: averageSet },
    { kind: "evaluate", parameterSet: averageSet },
  ],
} as const satisfies Pick<BuildOptions, "parameterSets" | "programs">;

/** The accumulate Program of sequences of `length`, with the tokens of the main one's. */
export function accumulateOf(length: number, main: Pick<BuildOptions, "microBatch" | "length">) {
  if (length === main.length) return { kind: "accumulate", name: "accumulate" } as const;
  return {
    kind: "accumulate",
    name: `accumulate/t${length}`,
    batch: (main.microBatch * main.length) / length,
    length,
  } as const;
}

export const modelEntries = (parameters: readonly Parameter[]): FileEntry[] => fileEntries(parameters, "param");
export const optimizerEntries = (parameters: readonly Parameter[]): FileEntry[] =>
  moments.flatMap((set) => fileEntries(parameters, set, `${set}/`));

/** Loads a Module with its constants, and draws its weights when a seed is given. */
export async function loadModule(
  engine: Engine,
  built: Pick<BuiltModule, "spec" | "constants" | "parameters">,
  seed?: number,
): Promise<Module> {
  const module = await engine.load(built.spec);
  for (const [name, value] of Object.entries(built.constants)) await module.write(name, value);
  if (seed !== undefined) await initializeWeights(module, built.parameters, seed);
  return module;
}

/** Draws the initial weights, each part under its Hugging Face name. */
export async function initializeWeights(module: Module, parameters: readonly Parameter[], seed: number): Promise<void> {
  for (const { tensor, spec } of initSpecs(parameters, seed)) await module.initialize(tensor, spec);
}

/** The engine's Module as the training loop uses it. */
export class ModuleMachine implements Machine {
  readonly #module: Module;
  readonly #built: BuiltModule;
  readonly #constants: OptimizerConstants;
  /** Ends when everything asked so far has been queued on the device. */
  #queued: Promise<unknown> = Promise.resolve();

  constructor(module: Module, built: BuiltModule, constants: OptimizerConstants) {
    this.#module = module;
    this.#built = built;
    this.#constants = constants;
  }

  async step(batch: Batch, step: number, scheduled: UpdateScalars, signal: AbortSignal): Promise<StepNumbers | null> {
    const scalars = adamScalars({
      ...this.#constants,
      ...scheduled,
      step,
      lossScale: 1 / Math.max(1, batch.validTokens),
    });
    // Micro-batches of two steps must not mix: a step is queued when the one before it is queued whole.
    const queued = this.#queued.then(() => this.#queueStep(batch, scalars, signal));
    this.#queued = queued.catch(() => undefined);
    const reads = await queued;
    if (reads === null) return null;
    const [loss, norm, status] = await Promise.all(reads.tensors);
    return { loss: loss![0]! / Math.max(1, batch.validTokens), norm: norm![0]!, status: status![0]! };
  }

  /**
   * Queues a step one micro-batch ahead of the device, so that a signal is obeyed at the next one; the update goes with
   * the last. Returns the pending reads of its numbers, in an object so that they are not awaited here.
   */
  async #queueStep(batch: Batch, scalars: Float32Array, signal: AbortSignal) {
    const { microBatch, length } = this.#built.options;
    const pieces = (batch.sequences * batch.length) / (microBatch * length);
    let previous: Promise<unknown> = Promise.resolve();
    let latest: Promise<unknown> = Promise.resolve();
    for (let i = 0; i < pieces; i++) {
      await previous;
      if (signal.aborted) {
        await latest;
        return null;
      }
      const entries = [this.#accumulate(batch, i, scalars)];
      if (i === pieces - 1) entries.push({ program: "update", scalars }, ...this.#average(scalars));
      previous = latest;
      latest = this.#module.play(entries);
      latest.catch(() => undefined);
    }
    const tensors = ["out/loss", "out/norm", "out/status"].map((name) => this.#module.read(name));
    // When the play fails nobody awaits the reads, which then fail too (a disposed engine cancels both).
    for (const read of tensors) read.catch(() => undefined);
    const played = latest;
    return { tensors: tensors.map((read) => played.then(() => read)) };
  }

  #accumulate(batch: Batch, index: number, scalars: Float32Array): PlayEntry {
    const { options } = this.#built;
    const rows = options.microBatch * options.length;
    const [from, to] = [index * rows, (index + 1) * rows];
    return {
      program: accumulateOf(batch.length, options).name,
      inputs: this.#inputs(batch, from, to),
      scalars,
      integers: playIntegers({ firstMicroBatch: index === 0 ? 1 : 0 }),
    };
  }

  /** Rows [from, to) of a batch, as the Programs take them. */
  #inputs(batch: Batch, from: number, to: number): Record<string, Int32Array> {
    const part = (values: Int32Array) => values.subarray(from, to);
    const inputs = { "io/tokens": part(batch.tokens), "io/targets": part(batch.targets) };
    if (this.#built.options.attention !== "documents") return inputs;
    if (!batch.starts) throw new ThalwegError("INTERNAL", "attention inside documents, but the batch has no starts");
    return { ...inputs, "io/starts": part(batch.starts) };
  }

  get averages(): boolean {
    return this.#built.options.parameterSets?.includes(averageSet) ?? false;
  }

  #average(scalars: Float32Array): PlayEntry[] {
    return this.averages ? [{ program: `average/${averageSet}`, scalars }] : [];
  }

  /** Begins the moving average with the weights as they are. */
  async startAverage(): Promise<void> {
    await this.#module.play(this.#average(adamScalars({ ...this.#constants, ...noScalars, ema: 0, lossScale: 1 })));
  }

  async evaluate(batch: Batch, weights: EvaluatedWeights = "live", each = false): Promise<LossSum> {
    const played = this.#module.play([
      {
        program: weights === "live" ? "evaluate" : `evaluate/${averageSet}`,
        inputs: this.#inputs(batch, 0, batch.tokens.length),
        scalars: adamScalars({ ...this.#constants, ...noScalars, lossScale: 1 }),
        integers: playIntegers({ firstMicroBatch: 1 }),
      },
    ]);
    const read = Promise.all(["out/eval_loss", ...(each ? ["out/token_loss"] : [])].map((n) => this.#module.read(n)));
    read.catch(() => undefined);
    await played;
    const [sum, losses] = (await read) as [Float32Array, Float32Array?];
    const found = { sum: sum[0]!, count: batch.validTokens };
    return losses ? { ...found, losses: losses.subarray(0, batch.targets.length) } : found;
  }

  async snapshot(): Promise<StateSnapshot> {
    const { parameters } = this.#built;
    const sets = ["param", ...moments, ...(this.averages ? [averageSet] : [])];
    const names = sets.flatMap((set) => parameters.map((p) => `${set}/${p.name}`));
    const held = await this.#module.snapshot(names);
    return {
      writeModel: async (path) => {
        // transformers asks for this line of metadata.
        await held.writeSafetensors(path, modelEntries(parameters), { format: "pt" });
      },
      writeOptimizer: async (path) => {
        await held.writeSafetensors(path, optimizerEntries(parameters));
      },
      writeAverage: this.averages
        ? async (path) => {
            await held.writeSafetensors(path, fileEntries(parameters, averageSet), { format: "pt" });
          }
        : null,
      dispose: () => held.dispose(),
    };
  }

  /** Reads weights, and the optimizer's moments and the moving average unless they are null. */
  async load(files: { model: string; optimizer: string | null; average?: string | null }): Promise<void> {
    const { model, optimizer, average = null } = files;
    const { parameters } = this.#built;
    await this.#module.loadFile(model, modelEntries(parameters));
    if (optimizer !== null) await this.#module.loadFile(optimizer, optimizerEntries(parameters));
    if (average !== null) await this.#module.loadFile(average, fileEntries(parameters, averageSet));
  }
}
