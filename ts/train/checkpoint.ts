import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { digestFile, syncPath, writeDurable } from "../base/files.ts";
import { type CheckpointState, checkpointName } from "./checkpoint_state.ts";
import { MANIFEST, type Manifest, makeManifest, STATE } from "./checkpoint_verify.ts";

/** Folders under construction; a crash may leave one, never taken for a checkpoint, removed at the next start. */
export const TEMPORARY_PREFIX = ".writing-";
/** Folders on their way out of the rotation. */
export const OUTGOING_PREFIX = ".removing-";

/** A file of a checkpoint: its content, or who writes it (the engine streams tensors itself). */
export type CheckpointFile = string | Uint8Array | ((path: string) => Promise<void>);

/**
 * Writes `directory`/step-00012500 so that it exists whole or not at all: files into a temporary folder, each synced;
 * manifest.json last; folder synced, renamed, parent synced. On any error (a full disk) the temporary folder is removed
 * and the error passed on: what was saved before is untouched.
 * @throws BAD_INPUT when the checkpoint exists already; ENOSPC and the like as the system gives them.
 */
export async function publishCheckpoint(
  directory: string,
  state: CheckpointState,
  files: Readonly<Record<string, CheckpointFile>>,
): Promise<{ path: string; bytes: number }> {
  const name = checkpointName(state.step);
  const unique = `${name}-${process.pid}-${randomBytes(3).toString("hex")}`;
  const temporary = join(directory, TEMPORARY_PREFIX + unique);
  const path = join(directory, name);
  if (existsSync(path))
    throw new ThalwegError("BAD_INPUT", `${path} exists already; a checkpoint is never overwritten.`);
  try {
    await mkdir(temporary, { recursive: true });
    const manifest = await writeFiles(temporary, { ...files, [STATE]: `${JSON.stringify(state, null, 2)}\n` });
    await syncPath(temporary);
    await rename(temporary, path);
    await syncPath(directory);
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    return { path, bytes };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

async function writeFiles(folder: string, files: Readonly<Record<string, CheckpointFile>>): Promise<Manifest> {
  const digests: Manifest["files"] = {};
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    if (typeof content === "function") {
      await content(path);
      await syncPath(path);
    } else await writeDurable(path, content);
    digests[name] = await digestFile(path);
  }
  const manifest = makeManifest(digests);
  await writeDurable(join(folder, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}
