import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ExitCode } from "../base/errors.ts";
import { runScreen, studyScreen } from "../report/watch.ts";
import { studyProgress } from "../study/progress.ts";
import { StudyStore } from "../study/store.ts";
import { loadRun } from "../train/compare.ts";
import { StopSignals } from "../train/signals.ts";

/** A screen, and whether there is nothing more to come. */
interface Look {
  text: string;
  finished: boolean;
}

/** `thalweg watch`: redraws one screen on a terminal; elsewhere prints it once. */
export async function runWatch(args: { folder: string; seconds: number }): Promise<number> {
  using signals = new StopSignals().install();
  const { signal } = signals;
  const look = existsSync(join(args.folder, "plan.json")) ? watchStudy(args.folder) : watchRun(args.folder);
  const live = process.stdout.isTTY === true;
  while (!signal.aborted) {
    const { text, finished } = await look();
    // Home, the screen, and nothing below it: no flicker.
    process.stdout.write(live ? `\x1b[H\x1b[2J${text}\n` : `${text}\n`);
    if (!live || finished) break;
    await sleep(1000 * args.seconds, undefined, { signal }).catch(() => undefined);
  }
  return ExitCode.ok;
}

const size = () => ({ width: process.stdout.columns ?? 100, height: process.stdout.rows ?? 30 });

function watchStudy(folder: string): () => Promise<Look> {
  const store = new StudyStore(folder);
  let first: { at: number; steps: number } | null = null;
  return async () => {
    const plan = await store.plan();
    const progress = await studyProgress(plan, store);
    const now = performance.now();
    first ??= { at: now, steps: progress.stepsDone };
    const speed = (progress.stepsDone - first.steps) / ((now - first.at) / 1000);
    const secondsLeft = speed > 0 ? (progress.stepsTotal - progress.stepsDone) / speed : null;
    return { text: studyScreen(plan, progress, { ...size(), secondsLeft }), finished: progress.finished };
  };
}

function watchRun(folder: string): () => Promise<Look> {
  return async () => ({ text: runScreen(await loadRun(folder), size()), finished: false });
}
