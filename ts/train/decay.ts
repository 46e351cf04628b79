import { basename, dirname, join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import type { DecayRequest, Interruption } from "../config/schedule_parts.ts";
import type { RunConfig } from "../config/schema.ts";
import { listCheckpoints } from "./checkpoint_folder.ts";
import { type Checkpoint, readCheckpoint } from "./checkpoint_verify.ts";
import { loadRun } from "./compare.ts";
import { decayed, resolveDecay } from "./live_decay.ts";
import { type RunOptions, type RunResult, runTraining } from "./run.ts";

export interface BranchOptions extends Omit<RunOptions, "config" | "runDir" | "resume" | "forkFrom" | "initFrom"> {
  /** Run directory of the trunk, running or finished. */
  run: string;
  /** A checkpoint of it: a folder, or its name. Default the newest. */
  from?: string | undefined;
  request: DecayRequest;
  /** Default: beside the trunk, as NAME-decay-STEP. */
  runDir?: string | undefined;
}

/** What a decay off a run would be. */
export interface Branch {
  checkpoint: Checkpoint;
  decay: Interruption;
  config: RunConfig;
  runDir: string;
}

/** Works a branch out: checkpoint, length, configuration, directory. Trains nothing. @throws BAD_INPUT, BAD_OPTION. */
export async function planBranch({ run, from, request, runDir }: BranchOptions): Promise<Branch> {
  const checkpoint = await readCheckpoint(await checkpointOf(run, from));
  const { state } = checkpoint;
  const tokensPerSecond = await speedOf(run);
  const tokensPerStep = state.config.batch.tokens;
  const decay = resolveDecay(request, { step: state.step, tokensPerStep, tokensPerSecond, now: Date.now() });
  const earlier = (state.config.schedule.lr.interruptions ?? []).filter((cut) => cut.at < state.step);
  const lr = { ...state.config.schedule.lr, interruptions: earlier };
  const trunk = { ...state.config, schedule: { ...state.config.schedule, lr } };
  const name = `${state.config.name}-decay-${state.step}`;
  const config = { ...decayed(trunk, decay), name };
  return { checkpoint, decay, config, runDir: runDir ?? join(dirname(resolve(run)), name) };
}

/**
 * Branches a decay off a run into a run of its own: weights, optimizer and data position of the checkpoint, the learning rate
 * from its value there down. The trunk is only read and may go on meanwhile.
 */
export async function branchDecay(options: BranchOptions): Promise<RunResult> {
  const { checkpoint, config, runDir } = await planBranch(options);
  const { run: _, from: __, request: ___, ...rest } = options;
  return runTraining({ ...rest, config, runDir, forkFrom: checkpoint.path });
}

async function checkpointOf(run: string, from: string | undefined): Promise<string> {
  const directory = join(run, "checkpoints");
  const all = await listCheckpoints(directory);
  const newest = all.at(-1);
  if (newest === undefined)
    throw new ThalwegError(
      "BAD_INPUT",
      `${run} has no checkpoint to branch off. Name a run directory that has saved one.`,
    );
  if (from === undefined) return newest.path;
  const found = all.find(
    (c) => basename(c.path) === from || resolve(c.path) === resolve(from) || String(c.step) === from,
  );
  if (found) return found.path;
  const steps = all.map((c) => c.step).join(", ");
  throw new ThalwegError(
    "BAD_OPTION",
    `--from ${from}: ${run} has no such checkpoint; it has those of steps ${steps}.`,
  );
}

async function speedOf(run: string): Promise<number | null> {
  const { steps } = await loadRun(run);
  const recent = steps.slice(-50).map((s) => s.tokensPerSecond);
  return recent.length === 0 ? null : recent.sort((a, b) => a - b)[recent.length >> 1]!;
}
