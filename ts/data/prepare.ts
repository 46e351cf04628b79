import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { acquireLock } from "../base/lock.ts";
import { PrepareJob, type PrepareOptions, type PrepareSummary } from "./prepare_job.ts";
import { listFiles } from "./readers/index.ts";
import { syncFolder } from "./shards.ts";
import { loadTokenizer } from "./tokenizers/index.ts";

/**
 * Turns text into token shards: output/train and output/validation, with inputs.jsonl (what was read) and, if there was
 * any, rejects.jsonl (what could not be used) beside them. The same inputs and options give the same bytes, on any number
 * of threads and after any interruption. All is written in OUTPUT.partial, which takes the output's name at the end: a run
 * killed at any moment leaves no half dataset, and the same command goes on from its last commit.
 * @throws ThalwegError BAD_OPTION, BAD_INPUT, CORRUPT_DATA (a damaged input), LOCKED
 */
export async function prepare(options: PrepareOptions): Promise<PrepareSummary> {
  const started = performance.now();
  options.signal?.throwIfAborted();
  checkOptions(options);
  const output = resolve(options.output);
  await mkdir(dirname(output), { recursive: true });
  await using _lock = await acquireLock(`${output}.lock`, { purpose: "data prepare" });
  const partial = `${output}.partial`;
  const replaced = `${output}.replaced`;
  await undoReplacement(output, replaced);
  if (!options.overwrite && (await exists(output)))
    throw new ThalwegError(
      "BAD_OPTION",
      `output ${options.output} exists: choose another, remove it, or say --overwrite (overwrite: true)`,
    );
  if (options.restart) await rm(partial, { recursive: true, force: true });
  const tokenizer = typeof options.tokenizer === "string" ? loadTokenizer(options.tokenizer) : options.tokenizer;
  // Validation is read first, so that a text in both is a duplicate in train and not the other way round.
  const validationFiles = await listFiles(options.validationInputs ?? [], options);
  const files = [...validationFiles, ...(await listFiles(options.inputs, options))];
  const job = new PrepareJob(options, tokenizer, files, validationFiles.length, partial);
  try {
    const made = await job.run();
    const { report, resumed } = job;
    if (await exists(output)) await rename(output, replaced);
    await rename(partial, output);
    await syncFolder(dirname(output));
    await rm(replaced, { recursive: true, force: true });
    return { output, ...made, report, resumed, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    if (!job.canResume) await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/** A process killed between two renames left the old output under another name. */
async function undoReplacement(output: string, replaced: string): Promise<void> {
  if (!(await exists(replaced))) return;
  if (await exists(output)) await rm(replaced, { recursive: true, force: true });
  else await rename(replaced, output);
}

function checkOptions(options: PrepareOptions): void {
  const bad = (what: string): never => {
    throw new ThalwegError("BAD_OPTION", what);
  };
  if (options.inputs.length === 0) bad("no inputs: name files, folders, globs or packages:node_modules");
  const fraction = options.validationFraction ?? 0;
  if (!(fraction >= 0 && fraction < 1)) bad(`validation fraction ${fraction} is not in [0, 1)`);
  for (const name of ["maxDocuments", "maxBytes", "shardTokens"] as const) {
    const value = options[name] ?? 1;
    if (!(value >= 1)) bad(`${name} is ${value}, expected at least 1`);
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
