import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.ts";
import type { TunedPeaks } from "./expand.ts";
import type { StudyStore } from "./store.ts";

/** What tuning found for one schedule (and size). */
export interface TunedPeak {
  readonly peak: number;
  /** Whether peaks on both sides of it did worse. */
  readonly interior: boolean;
  /** Every peak tried, with the loss of each tuning seed; null: diverged. */
  readonly grid: readonly { readonly peak: number; readonly losses: readonly (number | null)[] }[];
}

/** tuned.json in a study's folder. */
export interface TunedFile {
  readonly version: 1;
  readonly seeds: readonly number[];
  /** Nominal budget in steps that was tuned at. */
  readonly budget: number;
  /** Steps that tuning trained, all schedules together. */
  readonly steps: number;
  readonly peaks: Readonly<Record<string, TunedPeak>>;
}

const TUNED_FILE = "tuned.json";

export async function readTuned(store: StudyStore): Promise<TunedFile | null> {
  const text = await readFile(join(store.folder, TUNED_FILE), "utf8").catch(() => null);
  return text === null ? null : (JSON.parse(text) as TunedFile);
}

export async function saveTuned(store: StudyStore, tuned: TunedFile): Promise<void> {
  await writeFileAtomic(join(store.folder, TUNED_FILE), `${JSON.stringify(tuned, null, 2)}\n`);
}

export const peaksOf = (tuned: TunedFile | null): TunedPeaks | null =>
  tuned === null ? null : Object.fromEntries(Object.entries(tuned.peaks).map(([key, { peak }]) => [key, peak]));
