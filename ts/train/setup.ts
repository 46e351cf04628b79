import { totalmem } from "node:os";
import type { ThalwegError } from "../base/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import { planMemory } from "../engine/engine.ts";
import type { BuiltModule } from "../model/build.ts";
import { buildModule } from "../model/build.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { flopsPerToken } from "../model/presets.ts";
import { adamw } from "../optim/adamw.ts";
import { buildScalars, type RunScalars } from "../schedule/scalars.ts";
import type { Schedule } from "../schedule/schedule.ts";
import { openRunDataIfPresent, type RunData, sequencesIn } from "./datasets.ts";
import { type DryRun, dryRun, type EngineMemory } from "./dryrun.ts";
import { checkMicroBatch, chooseMicroBatch } from "./microbatch.ts";
import { enginePrecision, groupRules, resolveModel } from "./model_config.ts";
import { accumulateOf, averageOptions } from "./module_machine.ts";
import type { WarningRecord } from "./records.ts";

/** A run worked out: nothing here has touched a device. */
export interface PlannedRun {
  config: RunConfig;
  model: LlamaConfig;
  scalars: RunScalars;
  schedule: Schedule;
  /** Last step; null for an open run. */
  end: number | null;
  microBatch: number;
  built: BuiltModule;
  dryRun: DryRun;
}

/** What the plan needs to know about the data; null = not known. */
export interface DataFacts {
  vocab: number | null;
  epochSequences: number | null;
  validationSequences: number | null;
}

export interface PlanOptions {
  /** Bytes that may be used, when the config names no limit. Default: nine tenths of what this process may have. */
  availableBytes?: number;
  /** The micro-batch of the checkpoint that the run goes on from: `auto` keeps it, since the split decides bits. */
  savedMicroBatch?: number | null;
  /** A run that does not fit this machine is still worked out, one sequence at a time, with a warning: for a dry run. */
  describeOnly?: boolean;
  /** Stop after this step, before the schedule ends: a piece of a run that others share. */
  until?: number | undefined;
}

export function dataFacts({ train, sources, validations }: RunData, length: number): DataFacts {
  const total = (all: RunData["sources"]) => all.reduce((sum, { dataset }) => sum + sequencesIn(dataset, length), 0);
  return {
    vocab: train.manifest.tokenizer.vocabSize,
    epochSequences: total(sources),
    validationSequences: total(validations),
  };
}

/** FLOPs of one step of a run. */
const flopsOfStep = (config: RunConfig, model: LlamaConfig): number =>
  flopsPerToken(model, config.batch.length) * config.batch.tokens;

/** What changes over a run: all its scalars, the learning rate's schedule among them, and its last step. */
export interface RunCourse {
  scalars: RunScalars;
  schedule: Schedule;
  /** Last step; null for an open run. */
  end: number | null;
}

/** Works out what changes over a run. Without the model, durations in FLOPs are refused. */
export function runSchedule(config: RunConfig, model?: LlamaConfig): RunCourse {
  const scalars = buildScalars(config, model === undefined ? null : flopsOfStep(config, model));
  return { scalars, schedule: scalars.lr, end: scalars.end };
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Memory this process may have: that of its container, where one is set, or of the machine. */
function memoryOfProcess(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/**
 * Works a run out: model, schedule, Programs, memory, micro-batch. Pure but for the size of the machine.
 * @throws BAD_CONFIG naming the field; OUT_OF_MEMORY when not even one sequence fits.
 */
export function planRun(config: RunConfig, data: DataFacts, options: PlanOptions = {}): PlannedRun {
  const model = resolveModel(config.model, { length: config.batch.length, vocab: data.vocab });
  const { scalars, schedule, end: whole } = runSchedule(config, model);
  const end = options.until === undefined ? whole : Math.min(options.until, whole ?? options.until);
  const builds = new Map<number, { built: BuiltModule; engine: EngineMemory; plan: DryRun }>();
  const at = (microBatch: number) => {
    const known = builds.get(microBatch);
    if (known) return known;
    const built = build(config, model, scalars, microBatch);
    const engine = planMemory(built.spec, { device: config.device, threads: config.threads });
    const plan = dryRun({ config, model, scalars, end, built, engine, microBatch, ...data });
    builds.set(microBatch, { built, engine, plan });
    return { built, engine, plan };
  };
  const limit = config.memory.limit ?? options.availableBytes ?? 0.9 * memoryOfProcess();
  const { length } = config.batch;
  // The micro-batch divides every size that a step may have.
  const sequences = scalars.batch.stages.map((stage) => stage.sequences).reduce(gcd);
  const asked = config.batch.microBatch === "auto" ? options.savedMicroBatch : config.batch.microBatch;
  const needs = (n: number) => at(n).plan.memory.total;
  let microBatch = asked || 1;
  const warnings: WarningRecord[] = [];
  try {
    // Who names a micro-batch knows the machine: only a limit that was stated holds against it.
    microBatch = asked
      ? checkMicroBatch(asked, { sequences, limit: config.memory.limit ?? Number.POSITIVE_INFINITY, needs })
      : chooseMicroBatch({ sequences, length, limit, needs });
  } catch (error) {
    if (!options.describeOnly || (error as ThalwegError).code !== "OUT_OF_MEMORY") throw error;
    warnings.push(doesNotFit((error as ThalwegError).message));
  }
  const { built, plan } = at(microBatch);
  return {
    config,
    model,
    scalars,
    schedule,
    end,
    microBatch,
    built,
    // A piece is not judged by itself: whoever planned the whole has been warned.
    dryRun: { ...plan, warnings: options.until === undefined ? [...plan.warnings, ...warnings] : [] },
  };
}

const doesNotFit = (message: string): WarningRecord => ({
  type: "warning",
  step: 0,
  detector: "plan-does-not-fit",
  message: `this machine: ${message}`,
  suggestion: "Run it on a larger machine, or state memory.limit for the one it is meant for.",
});

function build(config: RunConfig, model: LlamaConfig, scalars: RunScalars, microBatch: number): BuiltModule {
  const { memory, evaluation, batch, optimizer } = config;
  const { parameterSets, programs } = scalars.averages ? averageOptions : { parameterSets: [], programs: [] };
  const lengths = new Set(scalars.lengths.stages.map((stage) => stage.length));
  lengths.delete(batch.length);
  const main = { microBatch, length: batch.length };
  return buildModule(model, {
    parameterSets,
    programs: [...programs, ...[...lengths].map((length) => accumulateOf(length, main))],
    precision: enginePrecision(config.precision),
    microBatch,
    length: batch.length,
    evalBatch: Math.min(microBatch, evaluation.sequences),
    recompute: memory.recompute,
    gradientSums: config.gradientSums,
    attention: config.data.attention,
    headChunkRows: memory.headChunk === "auto" ? undefined : memory.headChunk,
    kinds: ["accumulate", "update", "evaluate"],
    update: adamw({ groups: groupRules(optimizer.groups) }),
  });
}

/** FLOPs of a step for a schedule that speaks of FLOPs, with the vocabulary of the data where they are here; else null. */
export async function flopsForSchedule(config: RunConfig): Promise<number | null> {
  if (!/flops?\b/i.test(JSON.stringify(config.schedule))) return null;
  await using data = await openRunDataIfPresent(config.data);
  const vocab = data?.train.manifest.tokenizer.vocabSize ?? null;
  return flopsOfStep(config, resolveModel(config.model, { length: config.batch.length, vocab }));
}

/** A config worked out with its data, where they are here already: what `thalweg train --dry-run` prints. */
export async function planFromConfig(config: RunConfig): Promise<PlannedRun> {
  await using data = await openRunDataIfPresent(config.data);
  const unknown = { vocab: null, epochSequences: null, validationSequences: null };
  const facts = data ? dataFacts(data, config.batch.length) : unknown;
  return planRun(config, facts, { describeOnly: true });
}
