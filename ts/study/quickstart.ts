import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { acquireLock } from "../base/lock.ts";
import type { RunConfig } from "../config/schema.ts";
import { type PrepareProgress, type PrepareSummary, prepare } from "../data/prepare.ts";
import { loadRun, type RunMetrics } from "../train/compare.ts";
import { generateText } from "../train/generate.ts";
import type { Reporter } from "../train/reporter.ts";
import { type RunResult, runTraining } from "../train/run.ts";

export interface QuickstartOptions {
  /** The run: a config with a WSD-S schedule. Its data paths are replaced. */
  config: RunConfig;
  /** Folder that everything goes to; what an earlier quickstart left there is replaced. */
  folder: string;
  /** Text to learn from: inputs of `prepare`. */
  inputs: readonly string[];
  versions?: Readonly<Record<string, string>> | undefined;
  signal?: AbortSignal | undefined;
  /** Told what is about to happen. */
  onStage: (text: string) => void;
  onPrepare?: ((progress: PrepareProgress) => void) | undefined;
  reporter: Reporter;
}

export interface QuickstartResult {
  prepared: PrepareSummary;
  run: RunResult;
  metrics: RunMetrics;
  /** One for each decay; each begins where the run stood before it, evaluated there already. */
  controls: RunMetrics[];
  /** Null when a signal stopped it early. */
  sample: string | null;
  stopped: boolean;
}

/**
 * One WSD-S run to several budgets with a control for each decay: from the checkpoint before the decay the same steps on
 * the same data, at the peak rate. What the decay gains is its drop less the control's.
 */
export async function quickstart(options: QuickstartOptions): Promise<QuickstartResult> {
  const { folder, signal, onStage, reporter, versions } = options;
  await mkdir(folder, { recursive: true });
  await using _lock = await acquireLock(join(folder, "quickstart.lock"), { purpose: "quickstart" });
  for (const part of ["data", "run", "controls"]) await rm(join(folder, part), { recursive: true, force: true });
  onStage("prepare text");
  const data = join(folder, "data");
  const prepared = await prepare({
    inputs: options.inputs,
    output: data,
    tokenizer: "bytes",
    ...(options.onPrepare ? { onProgress: options.onPrepare } : {}),
  });
  const config = { ...options.config, data: { ...options.config.data, train: data, validation: null } };
  const runDir = join(folder, "run");
  onStage("train to all budgets under WSD-S");
  const common = { versions, signal, reporter };
  const run = await runTraining({ config, runDir, ...common });
  const metrics = await loadRun(runDir);
  const controls: RunMetrics[] = [];
  for (const decay of run.decays) {
    if (signal?.aborted) break;
    onStage(`control of budget ${decay.budget + 1}: the same steps at the peak rate`);
    const made = await control(options, config, run, decay, common);
    const start = metrics.evaluations.filter((e) => e.occasion === "pre-decay" && e.budget === decay.budget);
    controls.push({ ...made, name: "constant rate (control)", evaluations: [...start, ...made.evaluations] });
  }
  const stopped = signal?.aborted ?? false;
  const sample = stopped ? null : await sampleOf(runDir);
  return { prepared, run, metrics, controls, sample, stopped };
}

async function control(
  { folder }: QuickstartOptions,
  config: RunConfig,
  run: RunResult,
  decay: RunResult["decays"][number],
  common: Pick<QuickstartOptions, "signal" | "reporter" | "versions">,
): Promise<RunMetrics> {
  const before = run.checkpoints.find((c) => c.budget === decay.budget && c.occasion === "pre-decay");
  if (!before)
    throw new ThalwegError(
      "BAD_CONFIG",
      "the quickstart's config must save checkpoints at decays (checkpoints.atDecays).",
    );
  const { peak, warmup } = config.schedule.lr;
  const runDir = join(folder, "controls", `budget-${decay.budget + 1}`);
  await runTraining({
    config: {
      ...config,
      name: `constant ${decay.budget + 1}`,
      schedule: { ...config.schedule, lr: { peak, warmup, constant: {} } },
      steps: decay.step,
      checkpoints: { ...config.checkpoints, finalOnly: true },
    },
    runDir,
    forkFrom: join(run.runDir, before.path),
    measurePeak: false,
    ...common,
  });
  return loadRun(runDir);
}

async function sampleOf(runDir: string): Promise<string> {
  const prompt = "export function ";
  const { text } = await generateText({ path: runDir, prompt, maxTokens: 112, temperature: 0.8, seed: 1 });
  return prompt + text;
}
