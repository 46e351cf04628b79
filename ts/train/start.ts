import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { cleanTemporary, listCheckpoints, newestCheckpoint } from "./checkpoint_folder.ts";
import type { LineageEntry } from "./checkpoint_state.ts";
import { type Checkpoint, MANIFEST, readCheckpoint, requireCheckpointFolder } from "./checkpoint_verify.ts";
import { type RunOrigin, readRunFile } from "./run_folder.ts";
import { MODEL_FILE, OPTIMIZER_FILE } from "./saver.ts";

export interface StartOptions {
  runDir: string;
  /** "auto": the newest checkpoint of the run directory, or a new start when there is none; else a checkpoint folder. */
  resume?: "auto" | (string & {}) | undefined;
  /** Weights only: a checkpoint, a folder with model.safetensors, or a safetensors file. */
  initFrom?: string | undefined;
  /** Weights, optimizer and data position of another run's checkpoint, under this run's own plan. */
  forkFrom?: string | undefined;
}

/** Where a run begins. */
export type Start =
  | { kind: "start"; resumed: boolean }
  | { kind: "init"; weights: string; resumed: boolean }
  | { kind: "resume"; checkpoint: Checkpoint; own: boolean }
  | { kind: "fork"; checkpoint: Checkpoint };

/**
 * Finds and verifies what a run starts from. Removes torn folders of a killed process.
 * @throws BAD_OPTION when the options contradict each other or the run directory holds a run that would be overwritten;
 * CORRUPT_CHECKPOINT naming the file.
 */
export async function findStart(options: StartOptions): Promise<Start> {
  const { runDir, resume, initFrom, forkFrom } = options;
  const directory = join(runDir, "checkpoints");
  if (initFrom !== undefined && forkFrom !== undefined)
    throw new ThalwegError(
      "BAD_OPTION",
      "--init-from and --fork-from exclude each other: weights only, or everything.",
    );
  await cleanTemporary(directory);
  if (resume !== undefined && resume !== "auto") return resumeFrom(resume, runDir, directory);
  const newest = resume === "auto" ? await newestCheckpoint(directory) : null;
  if (newest) return { kind: "resume", checkpoint: withOptimizer(newest), own: true };
  if (resume === undefined) refuseUsed(runDir);
  else if (forkFrom === undefined && initFrom === undefined) await refuseOtherOrigin(runDir);
  const resumed = resume === "auto";
  if (forkFrom !== undefined)
    return { kind: "fork", checkpoint: withOptimizer(await readCheckpoint(resolve(forkFrom))) };
  if (initFrom !== undefined) return { kind: "init", weights: await weightsOf(resolve(initFrom)), resumed };
  return { kind: "start", resumed };
}

/** Training goes on only from a checkpoint that has the optimizer's state. */
function withOptimizer(checkpoint: Checkpoint): Checkpoint {
  if (OPTIMIZER_FILE in checkpoint.manifest.files) return checkpoint;
  throw new ThalwegError(
    "BAD_OPTION",
    `${checkpoint.path} holds merged weights without optimizer state: start from them with --init-from.`,
  );
}

async function resumeFrom(path: string, runDir: string, directory: string): Promise<Start> {
  const folder = resolve(path);
  if (!existsSync(folder)) throw new ThalwegError("BAD_OPTION", `--resume ${path}: no such folder.`);
  const own = resolve(folder, "..") === resolve(directory);
  // Records and checkpoints of another past must not be mixed in; an earlier start from the same checkpoint is the same.
  const origin = (await readRunFile(runDir))?.origin;
  const again = origin?.option === "--resume" && origin.path === folder;
  if (!own && !(again && (await listCheckpoints(directory)).length === 0)) refuseUsed(runDir);
  return { kind: "resume", checkpoint: withOptimizer(await readCheckpoint(folder)), own };
}

function refuseUsed(runDir: string): void {
  if (!existsSync(join(runDir, "metrics.jsonl")) && !existsSync(join(runDir, "checkpoints"))) return;
  throw new ThalwegError(
    "BAD_OPTION",
    `${runDir} holds a run already. Use --resume auto to go on with it, or another directory for a new one.`,
  );
}

/** A run that began from given weights and has no checkpoint yet cannot go on, and new weights are another run. */
async function refuseOtherOrigin(runDir: string): Promise<void> {
  const origin = (await readRunFile(runDir))?.origin ?? null;
  if (origin === null) return;
  const { option, path } = origin;
  const again = option === "--resume" ? `${option} ${path}` : `${option} ${path} --resume auto`;
  throw new ThalwegError(
    "BAD_OPTION",
    `${runDir} was begun with ${option} ${path} and has no checkpoint of its own: --resume auto would start with new weights. Say ${again}, or use another directory.`,
  );
}

/** Where a run's first state came from, for run.json; a run that goes on keeps what was said at its beginning. */
export async function originOf(start: Start, runDir: string): Promise<RunOrigin | null> {
  if (start.kind === "start") return null;
  if (start.kind === "init") return { option: "--init-from", path: start.weights };
  if (start.kind === "fork") return { option: "--fork-from", path: start.checkpoint.path };
  return start.own
    ? ((await readRunFile(runDir))?.origin ?? null)
    : { option: "--resume", path: start.checkpoint.path };
}

/** The safetensors file of weights at a path; a checkpoint of ours is verified first. */
async function weightsOf(path: string): Promise<string> {
  if (!existsSync(path)) throw new ThalwegError("BAD_OPTION", `--init-from ${path}: no such file or folder.`);
  if (statSync(path).isFile()) return path;
  if (existsSync(join(path, MANIFEST))) await readCheckpoint(path);
  const file = join(path, MODEL_FILE);
  if (existsSync(file)) return file;
  await requireCheckpointFolder(path);
  throw new ThalwegError("BAD_OPTION", `--init-from ${path}: the folder has no ${MODEL_FILE}.`);
}

/** The lineage after this start. */
export function extendLineage(before: readonly LineageEntry[], entry: LineageEntry): LineageEntry[] {
  const last = before.at(-1);
  // An interruption that changed nothing is no event of the lineage.
  if (entry.reason === "resume" && last?.scheduleHash === entry.scheduleHash) return [...before];
  return [...before.filter((e) => e.fromStep < entry.fromStep || e.fromStep === 0), entry];
}
