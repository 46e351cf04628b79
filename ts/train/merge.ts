import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { publishCheckpoint } from "./checkpoint.ts";
import { listCheckpoints } from "./checkpoint_folder.ts";
import { type Checkpoint, MANIFEST, readCheckpoint, requireCheckpointFolder, STATE } from "./checkpoint_verify.ts";
import { mergeWeights, type Weighing } from "./merge_weights.ts";
import { shapeDifferences } from "./resume.ts";
import { SafetensorsFile, writeLike } from "./safetensors.ts";
import { AVERAGE_FILE, MODEL_FILE, OPTIMIZER_FILE } from "./saver.ts";

export interface MergeOptions {
  /** Checkpoint folders, or one run directory whose checkpoints are meant. */
  paths: readonly string[];
  /** Of a run directory: the newest so many. */
  last?: number | undefined;
  /** Of a run directory: steps from .. to, both included. */
  window?: readonly [number, number] | undefined;
  weighing: Weighing;
  /** Folder to write: a checkpoint of the newest step in its checkpoints/, so that it reads as a run does. */
  out: string;
}

export interface Merged {
  /** The checkpoint folder written. */
  path: string;
  step: number;
  sources: { path: string; step: number; weight: number }[];
}

/**
 * Averages the weights of checkpoints, in float64 and in the order of their steps, and saves them as a checkpoint without
 * optimizer state: it is evaluated, sampled and started from (`--init-from`) like any other, and cannot be resumed.
 * @throws BAD_OPTION, BAD_INPUT when the checkpoints do not fit together; CORRUPT_CHECKPOINT naming the file.
 */
export async function mergeCheckpoints({ weighing, out, ...choice }: MergeOptions): Promise<Merged> {
  const checkpoints = await chosen(choice);
  const steps = checkpoints.map((c) => c.state.step);
  const weights = mergeWeights(weighing, steps);
  const newest = checkpoints.at(-1)!;
  const sources = checkpoints.map(({ path, state }, i) => ({
    path: resolve(path),
    step: state.step,
    weight: weights[i]!,
  }));
  const companions: Record<string, Uint8Array> = {};
  for (const name of Object.keys(newest.manifest.files))
    if (![MODEL_FILE, OPTIMIZER_FILE, AVERAGE_FILE, STATE, MANIFEST].includes(name))
      companions[name] = await readFile(join(newest.path, name));
  const { path } = await publishCheckpoint(
    join(out, "checkpoints"),
    { ...newest.state, occasion: "merged", budget: null, merged: sources },
    { ...companions, [MODEL_FILE]: (file) => writeMean(file, checkpoints, weights) },
  );
  return { path, step: newest.state.step, sources };
}

async function chosen({ paths, last, window }: Pick<MergeOptions, "paths" | "last" | "window">): Promise<Checkpoint[]> {
  const run = paths.length === 1 ? await listCheckpoints(join(paths[0]!, "checkpoints")) : [];
  if (paths.length === 1 && run.length === 0) await requireCheckpointFolder(paths[0]!);
  let list = run.length > 0 ? run.map((c) => c.path) : [...paths];
  if (window) list = run.filter((c) => c.step >= window[0] && c.step <= window[1]).map((c) => c.path);
  if (last !== undefined && !(Number.isInteger(last) && last > 0))
    throw new ThalwegError("BAD_OPTION", `the newest ${last} checkpoints; expected a whole number of at least 2.`);
  if (last !== undefined) list = list.slice(-last);
  if (list.length < 2)
    throw new ThalwegError(
      "BAD_OPTION",
      `${list.length} checkpoint${list.length === 1 ? "" : "s"} to merge; expected at least 2. Name several, or a run that kept several (checkpoints.keep).`,
    );
  const checkpoints: Checkpoint[] = [];
  for (const path of list) checkpoints.push(await readCheckpoint(path));
  checkpoints.sort((a, b) => a.state.step - b.state.step);
  for (const { path, state } of checkpoints) {
    const [differs] = shapeDifferences(checkpoints[0]!.state.model, state.model);
    if (differs)
      throw new ThalwegError(
        "BAD_INPUT",
        `${path} holds another network: ${differs.field} is ${differs.asked}, not ${differs.saved}.`,
      );
  }
  return checkpoints;
}

async function writeMean(file: string, checkpoints: readonly Checkpoint[], weights: readonly number[]): Promise<void> {
  const files: SafetensorsFile[] = [];
  await using _all = {
    [Symbol.asyncDispose]: async () => void (await Promise.all(files.map((f) => f[Symbol.asyncDispose]()))),
  };
  for (const { path } of checkpoints) files.push(await SafetensorsFile.open(join(path, MODEL_FILE)));
  const places = files.map((f) => new Map(f.tensors.map((t) => [t.name, t])));
  await writeLike(file, files.at(-1)!, async (tensor, from, count) => {
    const sum = new Float64Array(count);
    for (const [i, source] of files.entries()) {
      const place = places[i]!.get(tensor.name);
      if (place?.bytes !== tensor.bytes)
        throw new ThalwegError("BAD_INPUT", `${source.path} has no ${tensor.name} of that size.`);
      const values = await source.read(place, from, count);
      const weight = weights[i]!;
      for (let k = 0; k < count; k++) sum[k]! += weight * values[k]!;
    }
    return Float32Array.from(sum);
  });
}
