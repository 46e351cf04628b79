import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { ThalwegError } from "../../base/errors.ts";
import type { PrepareMeasured, PrepareTask } from "./prepare_worker.ts";
import { gatherTexts, median } from "./texts.ts";

export interface PrepareBenchOptions {
  /** As for `prepare`; their documents are written as .jsonl again and again, until there is enough. */
  readonly inputs: readonly string[];
  readonly tokenizer: string;
  /** 0 for every CPU allowed. */
  readonly threads: number;
  readonly rounds: number;
  /** Raw .jsonl to prepare. */
  readonly megabytes: number;
  readonly onRound?: (round: number) => void;
}

export interface PrepareBench {
  /** Of raw .jsonl. */
  readonly bytes: number;
  readonly documents: number;
  readonly tokens: number;
  readonly threads: number;
  /** Of one run, start and tokenizer included; medians over the rounds. */
  readonly megabytesPerSecond: number;
  /** Of CPU time, all threads together: what one core does, however many others want it. */
  readonly megabytesPerCpuSecond: number;
  /** Largest resident memory of the process over all rounds. */
  readonly peakBytes: number;
}

/**
 * Speed and memory of a whole `data prepare` from .jsonl: reading, parsing, splitting, removal of duplicates, tokenizing,
 * hashing and writing, each round in a process of its own. The files lie in the system's folder for temporary ones.
 * @throws ThalwegError BAD_INPUT when the inputs hold no text
 */
export async function benchPrepare(options: PrepareBenchOptions): Promise<PrepareBench> {
  const { tokenizer, threads } = options;
  const folder = await mkdtemp(join(tmpdir(), "thalweg-bench-"));
  try {
    const input = join(folder, "input.jsonl");
    const bytes = await writeLines(input, await gatherTexts(options.inputs, 64e6), options.megabytes * 1e6);
    const rounds: PrepareMeasured[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      rounds.push(await inProcess({ input, output: join(folder, `out-${round}`), tokenizer, threads }));
      await rm(join(folder, `out-${round}`), { recursive: true });
      options.onRound?.(round);
    }
    return {
      bytes,
      documents: rounds[0]!.documents,
      tokens: rounds[0]!.tokens,
      threads: threads || availableParallelism(),
      megabytesPerSecond: median(rounds.map((round) => bytes / 1e6 / round.seconds)),
      megabytesPerCpuSecond: median(rounds.map((round) => bytes / 1e6 / round.cpuSeconds)),
      peakBytes: Math.max(...rounds.map((round) => round.peakBytes)),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The texts over and over, each time with another beginning so that none is a duplicate; bytes written. */
async function writeLines(path: string, texts: readonly string[], wanted: number): Promise<number> {
  const file = createWriteStream(path);
  let bytes = 0;
  for (let copy = 0; bytes < wanted; copy++)
    for (const [i, text] of texts.entries()) {
      if (bytes >= wanted) break;
      const line = Buffer.from(
        `${JSON.stringify({ id: `${copy}-${i}`, text: `${copy}. ${text}`, source: "bench" })}\n`,
      );
      bytes += line.length;
      if (!file.write(line)) await once(file, "drain");
    }
  file.end();
  await finished(file);
  return bytes;
}

async function inProcess(task: PrepareTask): Promise<PrepareMeasured> {
  const program = import.meta.filename.endsWith(".ts") ? "prepare_worker.ts" : "prepare_worker.js";
  const child: ChildProcess = fork(join(import.meta.dirname, program), [JSON.stringify(task)], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  return new Promise((resolve, reject) => {
    child.once("message", (measured) => resolve(measured as PrepareMeasured));
    child.once("error", reject);
    child.once("exit", (code) => {
      if (code !== 0) reject(new ThalwegError("INTERNAL", `the process that prepares ended with ${code}`));
    });
  });
}
