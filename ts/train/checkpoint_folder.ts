import { randomBytes } from "node:crypto";
import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { OUTGOING_PREFIX, TEMPORARY_PREFIX } from "./checkpoint.ts";
import { stepOfName } from "./checkpoint_state.ts";
import { type Checkpoint, readCheckpoint } from "./checkpoint_verify.ts";
import type { Occasion } from "./records.ts";

async function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

/** Paths of the published checkpoints in `directory`, by step. Folders under construction do not count. */
export async function listCheckpoints(directory: string): Promise<{ step: number; path: string }[]> {
  const found = (await entries(directory)).map((name) => ({ step: stepOfName(name), path: join(directory, name) }));
  return found.filter((c): c is { step: number; path: string } => c.step !== null).sort((a, b) => a.step - b.step);
}

/** Removes what a killed process left: torn temporary folders and half-removed ones. Returns how many. */
export async function cleanTemporary(directory: string): Promise<number> {
  const torn = (await entries(directory)).filter(
    (n) => n.startsWith(TEMPORARY_PREFIX) || n.startsWith(OUTGOING_PREFIX),
  );
  for (const name of torn) await rm(join(directory, name), { recursive: true, force: true });
  return torn.length;
}

/**
 * The newest checkpoint of a run, verified; null when there is none. A damaged one is refused, not passed over:
 * deleting it by hand says that the loss of time is accepted.
 * @throws CORRUPT_CHECKPOINT naming the file.
 */
export async function newestCheckpoint(directory: string): Promise<Checkpoint | null> {
  const newest = (await listCheckpoints(directory)).at(-1);
  return newest ? readCheckpoint(newest.path) : null;
}

/** Checkpoints that rotation may remove; those at decays and at the end are pinned. */
const rotates: readonly Occasion[] = ["periodic", "signal"];

/** Removes regular checkpoints beyond the newest `keep`. Returns the removed paths; damaged ones are left alone. */
export async function rotateCheckpoints(directory: string, keep: number): Promise<string[]> {
  const regular: string[] = [];
  for (const { path } of await listCheckpoints(directory)) {
    const checkpoint = await readCheckpoint(path, { hash: false }).catch(() => null);
    if (checkpoint && rotates.includes(checkpoint.state.occasion)) regular.push(path);
  }
  const removed = regular.slice(0, Math.max(0, regular.length - keep));
  for (const path of removed) await removeFolder(directory, path);
  return removed;
}

/** Renamed first: a checkpoint that is half removed must not look like one that is whole. */
async function removeFolder(directory: string, path: string): Promise<void> {
  const outgoing = join(directory, OUTGOING_PREFIX + randomBytes(6).toString("hex"));
  await rename(path, outgoing);
  await rm(outgoing, { recursive: true, force: true });
}

/**
 * Sets the checkpoints after `step` aside as superseded-N-step-..., for a run that goes on from an older one: they
 * belong to a future that this run may not repeat. Nothing is deleted.
 */
export async function supersedeAfter(directory: string, step: number): Promise<string[]> {
  const later = (await listCheckpoints(directory)).filter((c) => c.step > step);
  const taken = (await entries(directory)).filter((name) => name.startsWith("superseded-")).length;
  const moved: string[] = [];
  for (const { path } of later) {
    const name = path.slice(directory.length + 1);
    const target = join(directory, `superseded-${taken + moved.length + 1}-${name}`);
    await rename(path, target);
    moved.push(target);
  }
  return moved;
}
