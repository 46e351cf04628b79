import { existsSync } from "node:fs";
import { mkdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { acquireLock, lockHolder } from "../base/lock.ts";
import type { RunConfig } from "../config/schema.ts";
import type { DeviceInfo } from "../engine/engine.ts";
import type { LineageEntry } from "./checkpoint_state.ts";

export const RUN_FILE = "run.json";
export const METRICS_FILE = "metrics.jsonl";
export const LOCK_FILE = "run.lock";

/** run.json: what was asked for, on what, and where it came from. Rewritten at each start of the run. */
export interface RunFile {
  version: 1;
  name: string;
  startedAt: string;
  config: RunConfig;
  /** Where each value of the config came from: default, preset, file, command line; by path. */
  sources: Readonly<Record<string, string>>;
  versions: Readonly<Record<string, string>>;
  device: DeviceInfo;
  microBatch: number;
  lineage: readonly LineageEntry[];
  /** The option that gave the run its first state; null for new weights. */
  origin: RunOrigin | null;
}

export interface RunOrigin {
  option: "--init-from" | "--fork-from" | "--resume";
  /** Absolute. */
  path: string;
}

/** The run.json of a directory; null when it has none. @throws CORRUPT_DATA naming the file. */
export async function readRunFile(runDir: string): Promise<RunFile | null> {
  const path = join(runDir, RUN_FILE);
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(await readFile(path, "utf8")) as RunFile;
  } catch (cause) {
    throw new ThalwegError("CORRUPT_DATA", `${path} is not JSON: restore it, or remove it.`, { cause });
  }
}

export async function writeRunFile(runDir: string, file: RunFile): Promise<void> {
  await mkdir(runDir, { recursive: true });
  await writeFileAtomic(join(runDir, RUN_FILE), `${JSON.stringify(file, null, 2)}\n`);
}

/** Milliseconds between looks at the lock: a step is not worth a system call. */
const LOOK_EVERY = 1000;

/** A run directory that this process alone trains into. */
export interface LockedFolder extends AsyncDisposable {
  /** @throws LOCKED when it is no longer this process's: nothing more is to be written. */
  check(): Promise<void>;
  /** The same, once a second at most: for every step. */
  glance(): Promise<void>;
}

/** Keeps other processes from training into `runDir`, which is made if need be. Nothing else is left of a run that never began. */
export async function lockRunFolder(runDir: string): Promise<LockedFolder> {
  const made = await mkdir(runDir, { recursive: true });
  const lock = await acquireLock(join(runDir, LOCK_FILE), {
    purpose: "train",
    subject: `the run directory ${runDir}`,
  });
  let looked = performance.now();
  return {
    check: () => lock.check(),
    glance: async () => {
      if (performance.now() - looked < LOOK_EVERY) return;
      looked = performance.now();
      await lock.check();
    },
    [Symbol.asyncDispose]: async () => {
      await lock.release();
      if (made !== undefined) await rmdir(runDir).catch(() => undefined); // only if it is empty
    },
  };
}

/** Whether a process trains into `runDir` now: one that was killed does not, though its lock is still there. */
export async function isTrained(runDir: string): Promise<boolean> {
  return (await lockHolder(join(runDir, LOCK_FILE))) !== null;
}
