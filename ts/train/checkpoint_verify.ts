import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { digestFile, type FileDigest } from "../base/files.ts";
import { canonicalHash } from "../config/canonical.ts";
import { type CheckpointState, STATE_VERSION, stepOfName } from "./checkpoint_state.ts";

export const MANIFEST = "manifest.json";
export const STATE = "state.json";
const MANIFEST_VERSION = 1;

/** manifest.json, written last: what belongs to the checkpoint. `digest` covers `version` and `files` themselves. */
export interface Manifest {
  version: number;
  files: Record<string, FileDigest>;
  digest: string;
}

/** A checkpoint whose files were all found and, unless asked not to, hashed. */
export interface Checkpoint {
  path: string;
  state: CheckpointState;
  manifest: Manifest;
  bytes: number;
}

const manifestDigest = (files: Manifest["files"]): string => canonicalHash({ version: MANIFEST_VERSION, files });

export function makeManifest(files: Manifest["files"]): Manifest {
  return { version: MANIFEST_VERSION, files, digest: manifestDigest(files) };
}

function corrupt(path: string, file: string, reason: string, cause?: unknown): ThalwegError {
  return new ThalwegError(
    "CORRUPT_CHECKPOINT",
    `${join(path, file)}: ${reason}. This checkpoint is not used. Restore the file, or resume from another checkpoint with --resume PATH.`,
    cause === undefined ? undefined : { cause },
  );
}

async function readJson(path: string, file: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(join(path, file), "utf8");
  } catch (cause) {
    throw corrupt(path, file, "cannot be read: not a Thalweg checkpoint, or a part of one", cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw corrupt(path, file, "is not JSON (truncated or overwritten)", cause);
  }
}

/**
 * Makes sure that `path` may be a checkpoint: a folder, and not one of a run.
 * @throws BAD_OPTION naming what to name instead
 */
export async function requireCheckpointFolder(path: string): Promise<void> {
  const names = await readdir(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === "ENOENT" ? "does not exist" : cause.code === "ENOTDIR" ? "is a file" : cause.message;
    throw new ThalwegError("BAD_OPTION", `${path} ${why}: expected a checkpoint's folder.`, { cause });
  });
  if (names.includes(MANIFEST) || !names.includes("checkpoints")) return;
  const steps = (await readdir(join(path, "checkpoints"))).filter((name) => stepOfName(name) !== null).sort();
  const newest = steps.at(-1);
  const hint =
    newest === undefined
      ? ", which has no checkpoint yet"
      : `: name one of its checkpoints, such as ${join(path, "checkpoints", newest)}`;
  throw new ThalwegError("BAD_OPTION", `${path} is a run directory${hint}.`);
}

async function readManifest(path: string): Promise<Manifest> {
  const manifest = (await readJson(path, MANIFEST)) as Partial<Manifest> | null;
  if (typeof manifest?.files !== "object" || manifest.files === null)
    throw corrupt(path, MANIFEST, "has no list of files: not a Thalweg manifest");
  if (manifest.version !== MANIFEST_VERSION)
    throw corrupt(path, MANIFEST, `is of version ${manifest.version}, expected ${MANIFEST_VERSION}`);
  if (manifest.digest !== manifestDigest(manifest.files))
    throw corrupt(path, MANIFEST, "does not match its own digest (bits changed)");
  return manifest as Manifest;
}

async function checkFile(path: string, name: string, expected: FileDigest, hash: boolean): Promise<void> {
  const found = await stat(join(path, name)).catch(() => null);
  if (found === null) throw corrupt(path, name, "is missing, manifest.json lists it");
  if (found.size !== expected.bytes)
    throw corrupt(path, name, `has ${found.size} bytes, expected ${expected.bytes} (truncated or replaced)`);
  if (!hash) return;
  const { sha256: digest } = await digestFile(join(path, name));
  if (digest !== expected.sha256)
    throw corrupt(path, name, `has SHA-256 ${digest.slice(0, 12)}..., expected ${expected.sha256.slice(0, 12)}...`);
}

/**
 * Reads a checkpoint folder and checks every byte of it against its manifest (`hash: false`: sizes only, for listings).
 * @throws BAD_OPTION when there is no such folder, or it is a run's; CORRUPT_CHECKPOINT naming the file and the reason: missing, truncated, changed, not listed, another version.
 */
export async function readCheckpoint(path: string, options: { hash?: boolean } = {}): Promise<Checkpoint> {
  await requireCheckpointFolder(path);
  const manifest = await readManifest(path);
  for (const name of await readdir(path)) {
    // Dot files are droppings of file managers and network drives.
    if (name !== MANIFEST && !name.startsWith(".") && !(name in manifest.files))
      throw corrupt(path, name, "is foreign: manifest.json does not list it");
  }
  let bytes = 0;
  for (const [name, expected] of Object.entries(manifest.files)) {
    await checkFile(path, name, expected, options.hash ?? true);
    bytes += expected.bytes;
  }
  if (!(STATE in manifest.files)) throw corrupt(path, MANIFEST, `does not list ${STATE}`);
  const state = (await readJson(path, STATE)) as CheckpointState;
  if (state.version !== STATE_VERSION)
    throw corrupt(path, STATE, `is of version ${state.version}, expected ${STATE_VERSION}`);
  return { path, state, manifest, bytes };
}
