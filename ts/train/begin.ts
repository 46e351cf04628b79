import { relative, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import type { CheckpointState, LineageEntry } from "./checkpoint_state.ts";
import type { Checkpoint } from "./checkpoint_verify.ts";
import type { RunData } from "./datasets.ts";
import { withLiveDecays } from "./live_decay.ts";
import type { DataCursor } from "./loop.ts";
import { resolveModel } from "./model_config.ts";
import { type AskedRun, type DriftPolicy, resolveDrift, shapeDifferences } from "./resume.ts";
import { dataFacts, type PlannedRun, planRun, runSchedule } from "./setup.ts";
import { extendLineage, findStart, type Start, type StartOptions } from "./start.ts";

export interface BeginOptions extends StartOptions {
  config: RunConfig;
  onDrift?: DriftPolicy | undefined;
  /** Stop after this step, before the schedule ends, and save there: a piece of a run that others share. */
  until?: number | undefined;
}

/** Everything decided about a run before a device is touched. */
export interface Beginning {
  start: Start;
  plan: PlannedRun;
  from: { step: number; tokens: number; cursor: DataCursor };
  lineage: LineageEntry[];
  dataHash: string;
}

const zero: DataCursor = { position: 0, offset: 0 };

/**
 * Finds the starting point, settles differences with its checkpoint and works the run out.
 * @throws BAD_OPTION, BAD_CONFIG, CORRUPT_CHECKPOINT; OUT_OF_MEMORY when the model cannot fit.
 */
export async function beginRun(options: BeginOptions, data: RunData): Promise<Beginning> {
  const start = await findStart(options);
  const dataHash = data.identity;
  if (start.kind === "resume") return goOn(options, data, start, start.checkpoint, dataHash);
  if (start.kind === "fork") return fork(options, data, start, start.checkpoint, dataHash);
  const plan = planRun(options.config, dataFacts(data, options.config.batch.length), { until: options.until });
  const parent = start.kind === "init" ? start.weights : null;
  const lineage = [{ fromStep: 0, reason: start.kind, parent, ...scheduleOf(plan) }];
  return { start, plan, from: { step: 0, tokens: 0, cursor: zero }, lineage, dataHash };
}

const scheduleOf = ({ schedule }: Pick<PlannedRun, "schedule">) => ({
  scheduleHash: schedule.hash,
  schedule: schedule.canonical,
});

const pointOf = ({ step, tokens, data }: CheckpointState) => ({
  step,
  tokens,
  cursor: { position: data.position, offset: data.offset },
});

function askedRun(config: RunConfig, data: RunData): AskedRun {
  const vocab = data.train.manifest.tokenizer.vocabSize;
  const model = resolveModel(config.model, { length: config.batch.length, vocab });
  return { config, model, ...runSchedule(config, model), dataHash: data.identity };
}

function goOn(options: BeginOptions, data: RunData, start: Start, checkpoint: Checkpoint, dataHash: string): Beginning {
  const { state, path } = checkpoint;
  const { end: savedEnd } = runSchedule(state.config, state.model);
  const wanted = withLiveDecays(options.config, state.lineage);
  const asked = { ...askedRun(wanted, data), savedEnd };
  const { config, reason, changed } = resolveDrift({ path, state }, asked, options.onDrift ?? "refuse");
  const plan = planRun(config, dataFacts(data, config.batch.length), {
    savedMicroBatch: state.microBatch,
    until: options.until,
  });
  if (plan.end !== null && plan.end < state.step)
    throw new ThalwegError(
      "BAD_CONFIG",
      `the run ends at step ${plan.end}, but ${path} is already at step ${state.step}. Raise steps, or resume from an earlier checkpoint.`,
    );
  const entry: LineageEntry = {
    fromStep: state.step,
    reason,
    parent: relative(resolve(options.runDir), resolve(path)),
    ...scheduleOf(plan),
    ...(changed.length > 0 ? { changed } : {}),
  };
  return { start, plan, from: pointOf(state), lineage: extendLineage(state.lineage, entry), dataHash };
}

/** Another plan from a checkpoint's weights, optimizer and data position; other data are read from their beginning. */
function fork(options: BeginOptions, data: RunData, start: Start, checkpoint: Checkpoint, dataHash: string): Beginning {
  const { state, path } = checkpoint;
  const plan = planRun(options.config, dataFacts(data, options.config.batch.length), { until: options.until });
  const shapes = shapeDifferences(state.model, plan.model);
  if (shapes.length > 0) {
    const list = shapes.map((d) => `${d.field} (${d.saved} there, ${d.asked} here)`).join(", ");
    throw new ThalwegError("BAD_CONFIG", `${path} holds another network than this run: ${list}.`);
  }
  if (plan.end !== null && plan.end <= state.step)
    throw new ThalwegError(
      "BAD_CONFIG",
      `${path} is at step ${state.step}, this run ends at step ${plan.end}: a fork counts on from its checkpoint. Raise the schedule's end.`,
    );
  const sameData = state.data.hash === dataHash && state.config.batch.length === options.config.batch.length;
  const point = pointOf(state);
  const from = sameData ? point : { ...point, cursor: zero };
  const spec = options.config.schedule.lr.interruptions?.find((cut) => cut.at === state.step);
  const entry: LineageEntry = {
    fromStep: state.step,
    reason: "fork",
    parent: resolve(path),
    ...scheduleOf(plan),
    ...(spec === undefined ? {} : { spec }),
  };
  return { start, plan, from, lineage: extendLineage(state.lineage, entry), dataHash };
}
