import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { acquireLock } from "../base/lock.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { prepare } from "../data/prepare.ts";
import type { PrepareProgress, PrepareSummary } from "../data/prepare_job.ts";
import { generateText } from "../train/generate.ts";
import { type PlannedStudyRun, planStudy, type StudyPlan } from "./plan.ts";
import { collectResults, type StudyCurve, type StudyResults } from "./results.ts";
import { StudyStore } from "./store.ts";

export interface QuickstartOptions {
  /** The study. Its data are replaced by `inputs`. */
  spec: StudySpec;
  /** Folder that everything goes to; what an earlier quickstart left there is replaced. */
  folder: string;
  /** Text to learn from: inputs of `prepare`. */
  inputs: readonly string[];
  signal?: AbortSignal | undefined;
  /** Told what is about to happen. */
  onStage: (text: string) => void;
  onPrepare?: ((progress: PrepareProgress) => void) | undefined;
  /** Trains what a plan lacks; false when a signal ended it. */
  train: (plan: StudyPlan, store: StudyStore) => Promise<boolean>;
}

export interface QuickstartResult {
  prepared: PrepareSummary;
  plan: StudyPlan;
  store: StudyStore;
  results: StudyResults;
  decays: QuickstartDecay[];
  sample: string;
}

/** What a WSD branch gained over the trunk that went on at the constant rate, from the same weights over the same data. */
export interface QuickstartDecay {
  readonly budget: number;
  readonly seed: string;
  /** Steps at which the branch leaves the trunk, and ends. */
  readonly start: number;
  readonly end: number;
  readonly before: number;
  readonly after: number;
  readonly drop: number;
  /** The control's loss at `end`, and how far it fell meanwhile. */
  readonly control: number;
  readonly controlDrop: number;
}

/** Prepares text, trains a small study and tells what its decays gained. @returns null when a signal stopped it. */
export async function quickstart(options: QuickstartOptions): Promise<QuickstartResult | null> {
  const { spec, folder, onStage, signal } = options;
  await mkdir(folder, { recursive: true });
  await using _lock = await acquireLock(join(folder, "quickstart.lock"), { purpose: "quickstart" });
  for (const part of ["data", "study"]) await rm(join(folder, part), { recursive: true, force: true });
  onStage("prepare text");
  const data = join(folder, "data");
  const prepared = await prepare({
    inputs: options.inputs,
    output: data,
    tokenizer: "bytes",
    ...(signal ? { signal } : {}),
    ...(options.onPrepare ? { onProgress: options.onPrepare } : {}),
  });
  const plan = await planStudy({ ...spec, set: { ...spec.set, data: { train: data, validation: null } } });
  const store = new StudyStore(join(folder, "study"));
  await store.savePlan(plan);
  onStage(`train ${plan.segments.length} segments that serve ${plan.runs.length} runs`);
  if (!(await options.train(plan, store))) return null;
  const results = await collectResults(plan, store);
  const chain = plan.runs.find((run) => run.deliverables.length > 1 && !run.control) ?? plan.runs[0]!;
  return { prepared, plan, store, results, decays: decaysOf(results), sample: await sampleOf(store, chain) };
}

/** Decays of the runs that have one, are no chain, and whose control was measured at their end. */
function decaysOf({ curves, rows }: StudyResults): QuickstartDecay[] {
  return curves.flatMap((curve): QuickstartDecay[] => {
    const { run } = curve;
    const [delivered] = run.deliverables;
    const left = leavesAt(curve);
    if (run.control || run.deliverables.length !== 1 || left === null) return [];
    const row = rows.find((r) => r.state === delivered!.state && r.schedule === run.schedule);
    const before = curve.evaluations.findLast((e) => e.step <= left)?.loss;
    if (!row || row.loss === null || row.controlLoss === null || before === undefined) return [];
    return [
      {
        budget: delivered!.budget,
        seed: run.replicate.seed ?? "1",
        start: left,
        end: delivered!.step,
        before,
        after: row.loss,
        drop: before - row.loss,
        control: row.controlLoss,
        controlDrop: before - row.controlLoss,
      },
    ];
  });
}

/** The last step at the peak, where a decay follows a stable phase; null for a run without one. */
function leavesAt({ run, steps }: StudyCurve): number | null {
  const fall = steps.findIndex(({ lr }, i) => i > 0 && lr < steps[i - 1]!.lr);
  const stable = fall > 1 && steps[fall - 1]!.lr === run.peak && steps[fall - 2]!.lr === run.peak;
  return stable ? steps[fall - 1]!.step : null;
}

async function sampleOf(store: StudyStore, run: PlannedStudyRun): Promise<string> {
  const prompt = "export function ";
  const path = store.segmentFolder(run.path.at(-1)!);
  const { text } = await generateText({ path, prompt, maxTokens: 112, temperature: 0.8, seed: 1 });
  return prompt + text;
}
