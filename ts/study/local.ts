import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { ExitCode, ThalwegError } from "../base/errors.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { prepare } from "../data/prepare.ts";
import { synthesize, syntheticSource } from "../data/synthetic/index.ts";
import type { StudyPlan } from "./plan.ts";
import type { StudyStore } from "./store.ts";

export interface LocalOptions {
  /** How a worker process is started: `command ...args` goes on working on the study until nothing is left. */
  command: readonly string[];
  jobs?: number | undefined;
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
  /** GPUs to hand out, one to a worker; none on the CPU. */
  gpus?: number | undefined;
  onNote?: ((text: string) => void) | undefined;
  /** Told the process id of each worker that starts. */
  onWorker?: ((pid: number | undefined) => void) | undefined;
}

/** Workers at a time, and threads of each. */
export interface Crew {
  readonly jobs: number;
  readonly threads: number;
}

/** As many workers as CPUs, memory and the study's width allow; the CPUs are divided among them. */
export function crewOf(plan: StudyPlan, asked: Pick<LocalOptions, "jobs" | "threads"> = {}): Crew {
  const { execution } = plan.spec;
  const cpus = availableParallelism();
  const memory = Math.max(1, ...plan.shapes.map((s) => s.memoryBytes));
  const room = Math.max(1, Math.floor((0.8 * totalmem()) / memory));
  const stated = execution.jobs === "auto" ? Math.min(cpus, room) : execution.jobs;
  const jobs = Math.max(1, Math.min(asked.jobs ?? stated, plan.segments.length));
  const share = Math.max(1, Math.floor(cpus / jobs));
  return { jobs, threads: asked.threads ?? (execution.threads === "auto" ? share : execution.threads) };
}

/** Makes the study's own data where they are not here yet. Returns whether it did. */
export async function prepareData(spec: StudySpec, folder: string, signal?: AbortSignal): Promise<boolean> {
  if (!spec.prepare || existsSync(folder)) return false;
  const { inputs, synthetic, tokenizer, validationFraction, splitBy } = spec.prepare;
  if (synthetic) {
    const { language, tokens, validationTokens, ...parameters } = synthetic;
    const source = syntheticSource(language, defined(parameters));
    await synthesize({ source, output: folder, tokens, ...defined({ validationTokens }) });
    return true;
  }
  await prepare({
    inputs: inputs!,
    output: folder,
    tokenizer,
    ...(validationFraction === undefined ? {} : { validationFraction }),
    ...(splitBy === undefined ? {} : { splitBy }),
    ...(signal ? { signal } : {}),
  });
  return true;
}

/** Without fields that are undefined. */
const defined = <T extends object>(fields: T) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };

/** Times in a row that a worker may be killed before the study gives up on it: by a full memory, for one. */
const mostDeaths = 3;

/**
 * Trains a study with several worker processes on this machine. Workers share the work by the locks of its folder, so one
 * that dies is replaced and costs the steps since its last checkpoint.
 * @returns whether everything is done or failed; false when a signal ended it.
 * @throws STUDY_FAILED when workers end with an error; each worker's log tells it.
 */
export async function runLocally(plan: StudyPlan, store: StudyStore, options: LocalOptions): Promise<boolean> {
  const { jobs, threads } = crewOf(plan, options);
  await mkdir(join(store.folder, "logs"), { recursive: true });
  const results = await Promise.all(Array.from({ length: jobs }, (_, i) => keepWorking(i, threads, store, options)));
  const failed = results.findIndex((code) => code !== ExitCode.ok && code !== ExitCode.savedRunAgain);
  if (failed >= 0)
    throw new ThalwegError(
      "STUDY_FAILED",
      `worker ${failed + 1} ended with exit code ${results[failed]}; see ${logFile(store, failed)}. What is finished stays; run the study again to go on.`,
    );
  return results.every((code) => code === ExitCode.ok);
}

const logFile = (store: StudyStore, index: number): string => join(store.folder, "logs", `worker-${index + 1}.log`);

/** One place of the crew: a worker, and another when it is killed. Returns the last one's exit code. */
async function keepWorking(index: number, threads: number, store: StudyStore, options: LocalOptions): Promise<number> {
  const { signal, gpus = 0, onNote, onWorker } = options;
  for (let deaths = 0; ; ) {
    if (signal?.aborted) return ExitCode.savedRunAgain;
    const worker = start(index, threads, store, options.command, gpus);
    onWorker?.(worker.pid);
    const stop = () => void worker.kill("SIGTERM");
    signal?.addEventListener("abort", stop);
    const [code, killedBy] = (await once(worker, "close")) as [number | null, string | null];
    signal?.removeEventListener("abort", stop);
    if (code !== null) return code;
    deaths += 1;
    if (deaths === mostDeaths) return 1;
    onNote?.(`worker ${index + 1} was ended by ${killedBy}; another one goes on from the last checkpoint`);
  }
}

function start(
  index: number,
  threads: number,
  store: StudyStore,
  [command, ...args]: readonly string[],
  gpus: number,
): ChildProcess {
  const log = openSync(logFile(store, index), "a");
  const worker = spawn(command!, [...args, store.folder, "--threads", String(threads)], {
    // In a group of its own: a terminal's Ctrl-C reaches the runner alone, which passes it on once.
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, ...(gpus > 0 ? { CUDA_VISIBLE_DEVICES: String(index % gpus) } : {}) },
  });
  closeSync(log);
  return worker;
}
