import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.ts";
import { acquireLock } from "../base/lock.ts";
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
}

export async function writeRunFile(runDir: string, file: RunFile): Promise<void> {
  await mkdir(runDir, { recursive: true });
  await writeFileAtomic(join(runDir, RUN_FILE), `${JSON.stringify(file, null, 2)}\n`);
}

/** Keeps other processes from training into `runDir`, which is made if need be. Nothing else is left of a run that never began. */
export async function lockRunFolder(runDir: string): Promise<AsyncDisposable> {
  const made = await mkdir(runDir, { recursive: true });
  const lock = await acquireLock(join(runDir, LOCK_FILE), { purpose: "train" });
  return {
    [Symbol.asyncDispose]: async () => {
      await lock.release();
      if (made !== undefined) await rmdir(runDir).catch(() => undefined); // only if it is empty
    },
  };
}
