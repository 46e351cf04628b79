import { ThalwegError } from "../base/errors.ts";
import type { ModuleSpec, Program } from "../engine/program.ts";
import { Layout } from "../graph/layout.ts";
import type { MemoryPlan } from "../graph/plan.ts";
import { lower } from "../graph/program.ts";
import { type Purpose, Tape } from "../graph/tape.ts";
import type { BuildOptions, ModelLayout, ProgramKind, ProgramRequest } from "./layout.ts";
import { type LlamaConfig, llamaParameters, ropeTable } from "./llama.ts";
import type { Parameter } from "./parameters.ts";
import { checkConfig, flopsPerToken } from "./presets.ts";
import { recorders } from "./programs.ts";

export type { AttentionScope, BuildOptions, ModelLayout, ProgramKind, ProgramRequest, Update } from "./layout.ts";

export interface ProgramMemory {
  /** Size of the scratch arena while it plays. */
  scratch: number;
  peak: MemoryPlan["peak"];
}

/** Bytes, without the packed weights and workspaces that a backend keeps privately. */
export interface MemoryReport {
  parameters: number;
  gradients: number;
  optimizer: number;
  /** Parameter sets beside the live one. */
  sets: number;
  caches: number;
  /** Inputs, outputs, constants. */
  io: number;
  persistent: number;
  /** The largest scratch arena of all Programs: one serves all. */
  scratch: number;
  /** That of the largest Program at its fullest command. */
  scratchByPurpose: Partial<Record<Purpose, number>>;
  total: number;
  programs: Readonly<Record<string, ProgramMemory>>;
}

export interface BuiltModule extends ModelLayout {
  spec: ModuleSpec;
  programs: Readonly<Record<string, Program>>;
  memory: MemoryReport;
  /** At `options.length`; see presets.ts for the formula. */
  flopsPerToken: number;
  /** To be written once after load, by persistent tensor name. */
  constants: Readonly<Record<string, Float32Array>>;
}

const defaultKinds: readonly ProgramKind[] = ["accumulate", "update", "evaluate", "decode"];
const trains = (kinds: readonly ProgramKind[]) => kinds.includes("accumulate") || kinds.includes("update");

/** Rows that io tensors hold: the largest micro-batch of any Program. */
function capacityOf(o: BuildOptions): number {
  const evaluation = (o.evalBatch ?? o.microBatch) * (o.evalLength ?? o.length);
  return Math.max(o.microBatch * o.length, evaluation, o.capacityRows ?? 0);
}

function layOut(c: LlamaConfig, parameters: readonly Parameter[], o: BuildOptions): Layout {
  const kinds = o.kinds ?? defaultKinds;
  const layout = new Layout();
  const rows = capacityOf(o);
  layout.region("param", parameters);
  if (trains(kinds)) for (const set of ["grad", "adam_m", "adam_v"]) layout.region(set, parameters);
  for (const set of o.parameterSets ?? []) layout.region(set, parameters);
  layout.add("io/tokens", "i32", [rows]);
  layout.add("io/targets", "i32", [rows]);
  if (o.attention === "documents") layout.add("io/starts", "i32", [rows]);
  layout.add("out/loss", "f32", [1]);
  layout.add("out/norm", "f32", [1]);
  layout.add("out/status", "i32", [1]);
  if (kinds.includes("evaluate")) {
    layout.add("out/eval_loss", "f32", [1]);
    layout.add("out/token_loss", "f32", [rows]);
  }
  if (kinds.includes("logits")) layout.add("out/all_logits", "f32", [rows, c.vocab]);
  layout.add("const/rope", "f32", [c.maxLength, c.headDim]);
  if (kinds.includes("decode")) {
    layout.add("out/logits", "f32", [1, c.vocab]);
    for (let i = 0; i < c.layers; i++)
      for (const part of ["k", "v"])
        layout.add(`cache/${part}.${i}`, o.precision, [1, c.maxLength, c.kvHeads * c.headDim]);
  }
  return layout;
}

function checkOptions(c: LlamaConfig, o: BuildOptions): void {
  for (const field of ["microBatch", "length", "evalBatch", "evalLength", "headChunkRows"] as const) {
    const value = o[field];
    if (value !== undefined && (!Number.isInteger(value) || value < 1))
      throw new ThalwegError("BAD_CONFIG", `${field} is ${value}, expected a positive integer`);
  }
  for (const length of [o.length, o.evalLength ?? 1])
    if (length > c.maxLength)
      throw new ThalwegError(
        "BAD_CONFIG",
        `sequences of ${length} tokens do not fit the model: model.maxLength is ${c.maxLength}`,
      );
}

function defaultName(request: ProgramRequest): string {
  const { kind, batch, length, parameterSet } = request;
  const size = batch === undefined && length === undefined ? "" : `/b${batch}xt${length}`;
  return `${kind}${size}${parameterSet === undefined || parameterSet === "param" ? "" : `/${parameterSet}`}`;
}

/**
 * Programs that refer to an existing layout, to be attached to a loaded Module: other lengths, batches, parameter sets.
 * Throws BAD_CONFIG when a batch has more rows than the io tensors.
 */
export function buildPrograms(
  model: ModelLayout,
  requests: readonly ProgramRequest[],
): { programs: Program[]; memory: Record<string, ProgramMemory> } {
  const memory: Record<string, ProgramMemory> = {};
  const programs = requests.map((request) => {
    const { kind, parameterSet = "param" } = request;
    const { options, layout } = model;
    const evaluation = kind === "evaluate";
    const batch = request.batch ?? (evaluation ? (options.evalBatch ?? options.microBatch) : options.microBatch);
    const length = request.length ?? (evaluation ? (options.evalLength ?? options.length) : options.length);
    const name =
      request.name ?? defaultName({ ...request, ...(request.batch || request.length ? { batch, length } : {}) });
    const capacity = layout.get("io/tokens").shape[0]!;
    if (batch * length > capacity)
      throw new ThalwegError(
        "BAD_CONFIG",
        `program ${name}: ${batch} sequences of ${length} tokens do not fit io/tokens, which has room for ${capacity}: build the Module with capacityRows`,
      );
    const tape = new Tape({ precision: options.precision, parameterSet });
    recorders[kind](tape, model, { batch, length });
    const { reuse = "all", fuse = options.precision === "bf16" } = options;
    const lowered = lower(tape, name, layout, { reuse, fuse });
    memory[name] = { scratch: lowered.memory.bytes, peak: lowered.memory.peak };
    return lowered.program;
  });
  return { programs, memory };
}

function report(layout: Layout, o: BuildOptions, programs: Record<string, ProgramMemory>): MemoryReport {
  const region = (name: string) => (layout.find(name) ? layout.bytesOf(name) : 0);
  const sets = (o.parameterSets ?? []).reduce((n, set) => n + region(set), 0);
  const caches = layout.tensors.filter((t) => t.name.startsWith("cache/")).reduce((n, t) => n + region(t.name), 0);
  const parameters = region("param");
  const gradients = region("grad");
  const optimizer = region("adam_m") + region("adam_v");
  const largest = Object.values(programs).reduce((a, b) => (b.scratch > a.scratch ? b : a));
  return {
    parameters,
    gradients,
    optimizer,
    sets,
    caches,
    io: layout.bytes - parameters - gradients - optimizer - sets - caches,
    persistent: layout.bytes,
    scratch: largest.scratch,
    scratchByPurpose: largest.peak.byPurpose,
    total: layout.bytes + largest.scratch,
    programs,
  };
}

/**
 * Everything the engine needs to train, evaluate and sample a LLaMA: addresses of all persistent tensors, the Programs,
 * and what they cost. Touches no device. Throws BAD_CONFIG naming the field.
 */
export function buildModule(config: LlamaConfig, options: BuildOptions): BuiltModule {
  checkConfig(config);
  checkOptions(config, options);
  const parameters = llamaParameters(config);
  const layout = layOut(config, parameters, options);
  const model: ModelLayout = { config, parameters, layout, options };
  const kinds = options.kinds ?? defaultKinds;
  const { programs, memory } = buildPrograms(model, [...kinds.map((kind) => ({ kind })), ...(options.programs ?? [])]);
  return {
    ...model,
    spec: { persistentBytes: layout.bytes, persistent: layout.tensors, programs },
    programs: Object.fromEntries(programs.map((p) => [p.name, p])),
    memory: report(layout, options, memory),
    flopsPerToken: flopsPerToken(config, options.length),
    constants: { "const/rope": ropeTable(config) },
  };
}
