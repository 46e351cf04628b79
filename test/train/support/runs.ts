import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { prepare } from "../../../ts/data/prepare.ts";
import { readMetrics } from "../../../ts/train/metrics.ts";
import { uniforms } from "../../../ts/train/random.ts";
import type { MetricsRecord } from "../../../ts/train/records.ts";
import { type RunOptions, type RunResult, runTraining } from "../../../ts/train/run.ts";
import { smallConfig } from "./states.ts";

const words =
  "the river runs along a valley between two hills and the water falls slowly to the sea where it rests".split(" ");

/** Text with something to learn: words in an order drawn from a seed, sentences of a few words. */
function text(characters: number, seed: number): string {
  const uniform = uniforms(seed);
  let out = "";
  while (out.length < characters) {
    const count = 3 + Math.floor(uniform() * 6);
    const sentence = Array.from({ length: count }, () => words[Math.floor(uniform() * words.length)]);
    out += `${sentence.join(" ")}.\n`;
  }
  return out;
}

/** A place for runs, with a prepared byte dataset in data/; removed when the process ends. */
export async function makeWorkplace(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "thalweg-train-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "text.txt"), text(40_000, 11));
  const inputs = [join(folder, "text.txt")];
  await prepare({ inputs, output: join(folder, "data"), tokenizer: "bytes", validationFraction: 0.1, splitBy: "tail" });
  return folder;
}

export type SmallRun = Partial<Omit<RunOptions, "config">> & { config?: Record<string, unknown> };

/** Trains the small config on the workplace's data into `name`. */
export function trainSmall(
  workplace: string,
  name: string,
  { config = {}, ...options }: SmallRun = {},
): Promise<RunResult> {
  const data = { train: join(workplace, "data"), ...(config.data as object) };
  return runTraining({
    config: smallConfig({ threads: 1, ...config, data }),
    runDir: join(workplace, name),
    measurePeak: false,
    ...options,
  });
}

/** Stops a run when `step` has been reported. */
export function stopAt(step: number): Pick<RunOptions, "signal" | "reporter"> {
  const controller = new AbortController();
  const nothing = () => undefined;
  return {
    signal: controller.signal,
    reporter: {
      start: nothing,
      step: ({ record }) => {
        if (record.step >= step) controller.abort();
      },
      evaluation: nothing,
      checkpoint: nothing,
      warning: nothing,
      note: nothing,
      end: nothing,
    },
  };
}

export const checkpointFile = (workplace: string, run: string, step: number, file: string): Buffer =>
  readFileSync(join(workplace, run, "checkpoints", `step-${String(step).padStart(8, "0")}`, file));

/** What a run measured, without what depends on the clock; checkpoints are written beside the steps, so sorted by kind. */
export async function deterministicMetrics(workplace: string, run: string): Promise<unknown[]> {
  const records = await readMetrics(join(workplace, run, "metrics.jsonl"));
  const strip = (r: MetricsRecord) => {
    if (r.type === "step") return { ...r, tokensPerSecond: 0, share: 0 };
    return r;
  };
  const kinds = ["step", "evaluation", "warning"] as const;
  return kinds.flatMap((kind) => records.filter((r) => r.type === kind).map(strip));
}
