import { relative } from "node:path";
import { canonicalHash } from "../config/canonical.ts";
import { type Batch, TokenLoader } from "../data/loader.ts";
import { flopsPerToken } from "../model/presets.ts";
import { type Beginning, type BeginOptions, beginRun } from "./begin.ts";
import { supersedeAfter } from "./checkpoint_folder.ts";
import { type CheckpointState, checkpointName, NUMERICS_VERSION, STATE_VERSION } from "./checkpoint_state.ts";
import { decaysOf, type RunSummary } from "./compare.ts";
import { openRunData, type RunData, sequencesIn } from "./datasets.ts";
import { DetectorSet, detectorsOf } from "./detectors.ts";
import { type LoadedRun, loadRun, peakOf } from "./device.ts";
import { evaluateSets, validationSet } from "./evaluate.ts";
import { huggingFaceConfig } from "./hf_config.ts";
import { type DataCursor, type LoopResult, type SavePoint, TrainingLoop } from "./loop.ts";
import { mixtureStages } from "./mixture.ts";
import { type CheckpointRecord, type EvaluationRecord, METRICS_VERSION, type WarningRecord } from "./records.ts";
import { loopPlan, Redirect } from "./redirect.ts";
import { type Reporter, silentReporter } from "./reporter.ts";
import { type LockedFolder, lockRunFolder, writeRunFile } from "./run_folder.ts";
import { RunLog } from "./run_log.ts";
import { CheckpointSaver } from "./saver.ts";
import type { PlannedRun } from "./setup.ts";
import { originOf } from "./start.ts";

export interface RunOptions extends BeginOptions {
  /** Where each value of the config came from, for run.json. */
  sources?: Readonly<Record<string, string>> | undefined;
  /** Versions for run.json, e.g. { thalweg: "0.1.0" }. */
  versions?: Readonly<Record<string, string>> | undefined;
  /** Aborting it saves the last finished step and ends the run with stoppedBy "signal". */
  signal?: AbortSignal | undefined;
  reporter?: Reporter | undefined;
  /** State the share of the measured matrix-multiply peak (a fraction of a second at the start). Default true. */
  measurePeak?: boolean | undefined;
  /** Save the state at the run's end, or at `until`. Default true; false where only what was measured is wanted. */
  saveEnd?: boolean | undefined;
}

export interface RunResult extends LoopResult {
  runDir: string;
  /** All of the run, earlier starts included. */
  evaluations: EvaluationRecord[];
  checkpoints: CheckpointRecord[];
  warnings: WarningRecord[];
  /** Validation loss around each finished decay. */
  decays: RunSummary["decays"];
}

/**
 * Trains a run: from a config, or on from a checkpoint, to its end, a signal or the end of the data. Checkpoints,
 * metrics.jsonl and run.json go to `runDir`. The same config on the same device class gives the same bits, whatever
 * interruptions.
 * @throws BAD_CONFIG, BAD_OPTION, BAD_INPUT before anything is written; LOCKED when another process trains into `runDir`, or
 * has taken it over meanwhile; CORRUPT_DATA, CORRUPT_CHECKPOINT;
 * OUT_OF_MEMORY; NO_DEVICE; NOT_FINITE when the loss diverged (earlier checkpoints stay); CHECKPOINT_FAILED when the
 * last checkpoint could not be written.
 */
export async function runTraining(options: RunOptions): Promise<RunResult> {
  await using data = await openRunData(options.config.data);
  await using folder = await lockRunFolder(options.runDir);
  const beginning = await beginRun(options, data);
  await using loaded = await loadRun(beginning.plan, beginning.start);
  const log = await openLog(options, beginning, loaded);
  try {
    const result = await train(options, data, beginning, loaded, log, folder);
    const { evaluations, checkpoints, warnings } = log;
    return { ...result, runDir: options.runDir, evaluations, checkpoints, warnings, decays: decaysOf(evaluations) };
  } finally {
    await log.close();
  }
}

async function openLog(options: RunOptions, beginning: Beginning, { engine }: LoadedRun): Promise<RunLog> {
  const { runDir, reporter = silentReporter } = options;
  const { start, plan, from } = beginning;
  const { config, dryRun } = plan;
  const startedAt = Date.now();
  const ownPast = start.kind === "resume" && start.own;
  if (ownPast) await supersedeAfter(`${runDir}/checkpoints`, from.step);
  // First: whatever else is found in the directory, run.json says where it came from.
  await describeRun(options, beginning, engine, startedAt);
  return RunLog.open({
    runDir,
    goesOn: "checkpoint" in start ? { step: from.step, from: relative(runDir, start.checkpoint.path) } : null,
    header: {
      type: "header",
      version: METRICS_VERSION,
      run: config.name,
      startedAt,
      parameters: dryRun.parameters.total,
      flopsPerToken: dryRun.flopsPerToken,
      deviceClass: engine.info.deviceClass,
    },
    tensorboard: config.log.tensorboard,
    reporter,
  });
}

/** Writes run.json: the configuration, the device, the lineage as it stands. */
async function describeRun(
  { runDir, sources = {}, versions = {} }: RunOptions,
  { start, plan, lineage }: Beginning,
  { info: device }: LoadedRun["engine"],
  startedAt: number,
): Promise<void> {
  const { config, microBatch } = plan;
  const at = new Date(startedAt).toISOString();
  const { name } = config;
  await writeRunFile(runDir, {
    version: 1,
    name,
    startedAt: at,
    config,
    sources,
    versions,
    device,
    microBatch,
    lineage,
    origin: await originOf(start, runDir),
  });
}

async function train(
  options: RunOptions,
  data: RunData,
  beginning: Beginning,
  loaded: LoadedRun,
  log: RunLog,
  folder: LockedFolder,
): Promise<LoopResult> {
  const { plan, from, start } = beginning;
  const { config, dryRun } = plan;
  const { engine, machine } = loaded;
  const { reporter = silentReporter, signal = new AbortController().signal } = options;
  reporter.start(dryRun, from.step);
  for (const warning of dryRun.warnings) {
    const forked = start.kind === "fork" && warning.detector === "other-bits"; // its bits vary from there on
    if (from.step === 0 || forked) log.record({ ...warning, step: from.step });
  }
  warnOfOtherDevice(beginning, engine.info.deviceClass, log);
  const detectors = new DetectorSet(detectorsOf(config.detectors));
  detectors.replay(log.kept);
  let loader = trainingLoader(data, plan, from.cursor);
  const saver = openSaver(options, data, beginning, log, folder);
  const own = start.kind === "resume" && start.own;
  // A decay that begins where the run was forked needs the loss it began with.
  const cutsIn = config.schedule.lr.interruptions?.some((cut) => cut.at === from.step) ?? false;
  const startedAt = Date.now();
  const redirect = new Redirect({
    runDir: options.runDir,
    beginning,
    record: (record) => log.record(record),
    note: (text) => reporter.note(text),
    onTurn: (now) => {
      // A mixture may have other weights in decays.
      loader = trainingLoader(data, now.plan, { position: loader.position, offset: loader.offset });
      return describeRun(options, now, engine, startedAt);
    },
  });
  const loop = new TrainingLoop({
    machine,
    nextBatch: (step) => {
      const length = plan.scalars.lengths.lengthAt(step);
      loader.setLength(length);
      return loader.next((plan.scalars.batch.sequencesAt(step) * config.batch.length) / length);
    },
    plan: loopPlan(plan),
    redirect: async (step) => {
      await folder.glance();
      return redirect.take(step);
    },
    from: { ...from, evaluated: !(own || cutsIn) || log.evaluations.some((e) => e.step === from.step) },
    peakFlops: options.measurePeak === false ? null : await peakOf(engine, plan),
    flopsPerToken: (length) => flopsPerToken(plan.model, length),
    logEvery: config.log.every,
    detectors,
    reporter,
    record: (record) => {
      redirect.observe(record);
      log.record(record);
    },
    evaluate: evaluator(data, plan, loaded),
    save: async (at, required) => {
      if (options.saveEnd === false && at.step === redirect.current.plan.end) return;
      const state = stateOf(redirect.current, at, engine.info.deviceClass);
      const copy = () => machine.snapshot();
      await (required ? saver.saveRequired(state, copy) : saver.save(state, copy));
    },
    lastGood: async () => {
      await saver.drain();
      return saver.newest();
    },
    signal,
  });
  try {
    return await loop.run();
  } finally {
    await saver.drain();
  }
}

function trainingLoader(data: RunData, { config, schedule, scalars }: PlannedRun, cursor: DataCursor): TokenLoader {
  const { length } = config.batch;
  const { seed, onEnd, attention } = config.data;
  const stages = mixtureStages(config, schedule, (step) => scalars.batch.tokensAt(step) / length);
  const loader = new TokenLoader(data.sources, {
    length,
    maxLength: length,
    seed,
    onEnd,
    documents: attention === "documents",
    ...(stages ? { stages } : {}),
  });
  loader.seek(cursor.position, cursor.offset);
  return loader;
}

/** Without a single validation sequence there is nothing to measure; the plan has warned. */
function evaluator(data: RunData, { config, built }: PlannedRun, { machine }: LoadedRun) {
  const { length } = config.batch;
  const batch = built.options.evalBatch ?? built.options.microBatch;
  const { sequences, skip, entropyBounds } = config.evaluation;
  const shape = { sequences, length, batch, attention: config.data.attention };
  const sets = data.validations
    .filter(({ dataset }) => sequencesIn(dataset, length) > skip)
    .map((source) => ({ ...source, batches: validationSet(source.dataset, { ...shape, skip }) }));
  if (sets.length === 0) return null;
  const averaged = { evaluate: (batch: Batch) => machine.evaluate(batch, "average") };
  return async (signal: AbortSignal) => {
    const measured = await evaluateSets(machine, sets, signal, entropyBounds);
    if (!machine.averages) return measured;
    return { ...measured, averageLoss: (await evaluateSets(averaged, sets, signal)).loss };
  };
}

function openSaver(
  options: RunOptions,
  data: RunData,
  { plan, start, from }: Beginning,
  log: RunLog,
  folder: LockedFolder,
): CheckpointSaver {
  const tokenizer = data.train.tokenizer();
  const config = JSON.stringify(huggingFaceConfig(plan.model, tokenizer), null, 2);
  const saver = new CheckpointSaver({
    runDir: options.runDir,
    keep: plan.config.checkpoints.keep,
    companions: { "config.json": `${config}\n`, ...tokenizer.files() },
    onSaved: (record) => log.record(record),
    onWarning: (record) => log.record(record),
    beforePublish: async () => {
      await folder.check();
      await log.flush();
    },
  });
  if (start.kind !== "resume" || !start.own) return saver;
  saver.startedFrom(from.step);
  // A process killed right after a checkpoint has left no record of it.
  if (!log.checkpoints.some((c) => c.step === from.step)) {
    const { step, tokens, occasion, budget } = start.checkpoint.state;
    const path = `checkpoints/${checkpointName(step)}`;
    log.record({ type: "checkpoint", step, tokens, path, occasion, budget, bytes: start.checkpoint.bytes });
  }
  return saver;
}

function stateOf({ plan, lineage, dataHash }: Beginning, at: SavePoint, deviceClass: string): CheckpointState {
  const { config, model, schedule, microBatch } = plan;
  return {
    version: STATE_VERSION,
    step: at.step,
    tokens: at.tokens,
    occasion: at.occasion,
    phase: schedule.phaseAt(at.step).kind,
    budget: at.budget,
    data: { ...at.cursor, hash: dataHash, seed: config.data.seed },
    seed: config.seed,
    model,
    microBatch,
    schedule: { canonical: schedule.canonical, hash: schedule.hash },
    config,
    configHash: canonicalHash(config),
    lineage,
    deviceClass,
    numericsVersion: NUMERICS_VERSION,
  };
}

/** A continuation elsewhere is allowed, but its bits are not those of an uninterrupted run: said, never hidden. */
function warnOfOtherDevice({ start, from, plan }: Beginning, deviceClass: string, log: RunLog): void {
  if (start.kind !== "resume") return;
  const saved = start.checkpoint.state;
  const differences = [
    ...(saved.deviceClass === deviceClass ? [] : [`device class ${saved.deviceClass} (here ${deviceClass})`]),
    ...(saved.numericsVersion === NUMERICS_VERSION ? [] : [`numerics version ${saved.numericsVersion}`]),
    ...(saved.microBatch === plan.microBatch ? [] : [`micro-batch ${saved.microBatch} (here ${plan.microBatch})`]),
    ...(plan.dryRun.repeatable ? [] : ["gradientSums any (this device adds in any order)"]),
  ];
  const said = log.warnings.some((w) => w.detector === "other-bits" && w.step === from.step);
  if (differences.length === 0 || said) return;
  log.record({
    type: "warning",
    step: from.step,
    detector: "other-bits",
    message: `the checkpoint was written with ${differences.join(", ")}: the continuation is sound, but not bit-identical to an uninterrupted run`,
    suggestion:
      "When the bits matter, resume on the same device class with the same micro-batch, and train with gradientSums: ordered.",
  });
}
