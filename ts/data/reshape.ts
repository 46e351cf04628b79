import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { acquireLock } from "../base/lock.ts";
import { type Dataset, openDataset } from "./dataset.ts";
import { type DatasetManifest, DatasetWriter, type Provenance } from "./shards.ts";

export interface ReshapeOptions {
  /** Tokens of a shard, about. Default 2^27. */
  readonly shardTokens?: number;
  /** Replace an existing output. Default false. */
  readonly overwrite?: boolean;
}

/**
 * One dataset of the documents of several, one after the other.
 * @throws ThalwegError BAD_INPUT when they have different tokenizers, CORRUPT_DATA when one is damaged
 */
export async function mergeDatasets(
  folders: readonly string[],
  output: string,
  options: ReshapeOptions = {},
): Promise<DatasetManifest> {
  const datasets = await openAll(folders);
  try {
    const first = datasets[0]!;
    const other = datasets.find(({ manifest }) => manifest.tokenizer.hash !== first.manifest.tokenizer.hash);
    if (other)
      throw new ThalwegError(
        "BAD_INPUT",
        `${other.folder} was made with another tokenizer (${other.manifest.tokenizer.name}) than ${first.folder} (${first.manifest.tokenizer.name})`,
      );
    return await replacing(output, options, async (folder) => {
      await mkdir(folder, { recursive: true });
      const parts = datasets.map((dataset) => ({ dataset, from: 0, to: dataset.documents }));
      return copy(parts, folder, first.manifest.name, options, { merged: datasets.map((d) => d.manifest.identity) });
    });
  } finally {
    await Promise.all(datasets.map((dataset) => dataset.close()));
  }
}

/**
 * A dataset in `parts` datasets of about equally many tokens, part-00, part-01, ..., each a run of whole documents.
 * @throws ThalwegError BAD_OPTION for more parts than documents
 */
export async function splitDataset(
  folder: string,
  output: string,
  parts: number,
  options: ReshapeOptions = {},
): Promise<DatasetManifest[]> {
  const [dataset] = await openAll([folder]);
  try {
    const { documents, tokens, manifest } = dataset!;
    if (!Number.isInteger(parts) || parts < 1 || parts > documents)
      throw new ThalwegError("BAD_OPTION", `${parts} parts of ${documents} documents: expected 1 to ${documents}`);
    return await replacing(output, options, async (partial) => {
      const made: DatasetManifest[] = [];
      let [from, before] = [0, 0];
      for (let part = 0; part < parts; part++) {
        let to = from;
        let size = 0;
        // At least one document for each part that is still to come.
        while (to < documents - (parts - 1 - part) && (to === from || before + size < (tokens * (part + 1)) / parts))
          size += (await dataset!.document(to++)).length;
        if (part === parts - 1) to = documents;
        const name = `part-${String(part).padStart(2, "0")}`;
        await mkdir(join(partial, name), { recursive: true });
        const origin = { split: manifest.identity, documents: [from, to] };
        made.push(await copy([{ dataset: dataset!, from, to }], join(partial, name), name, options, origin));
        from = to;
        before += size;
      }
      return made;
    });
  } finally {
    await dataset!.close();
  }
}

async function openAll(folders: readonly string[]): Promise<Dataset[]> {
  if (folders.length === 0) throw new ThalwegError("BAD_OPTION", "no datasets: name folders with a dataset.json");
  const datasets: Dataset[] = [];
  try {
    for (const folder of folders) datasets.push(await openDataset(folder, { cacheBytes: 0, verify: true }));
    return datasets;
  } catch (error) {
    await Promise.all(datasets.map((dataset) => dataset.close()));
    throw error;
  }
}

interface Stretch {
  readonly dataset: Dataset;
  readonly from: number;
  readonly to: number;
}

async function copy(
  stretches: readonly Stretch[],
  folder: string,
  name: string,
  options: ReshapeOptions,
  origin: Readonly<Record<string, unknown>>,
): Promise<DatasetManifest> {
  const datasets = stretches.map(({ dataset }) => dataset);
  const entropy = datasets.every((dataset) => dataset.hasEntropy);
  const tokenizer = datasets[0]!.tokenizer();
  const writer = new DatasetWriter(folder, name, tokenizer, { shardTokens: options.shardTokens ?? 2 ** 27, entropy });
  try {
    for (const { dataset, from, to } of stretches) {
      const { textBytes } = dataset.manifest;
      let at = from === 0 ? 0 : await dataset.documentStart(from);
      for (let index = from; index < to; index++) {
        const tokens = await dataset.document(index);
        const values = entropy ? new Float32Array(tokens.length) : undefined;
        if (values) await dataset.readEntropy(at, tokens.length, values);
        at += tokens.length;
        // Text is counted for the whole: a part has its share by tokens.
        const share = (tokensBefore: number) => Math.round((textBytes * tokensBefore) / dataset.tokens);
        await writer.add(tokens, null, share(at) - share(at - tokens.length), values);
      }
    }
    return await writer.finish(provenanceOf(datasets, origin));
  } finally {
    await writer.close();
  }
}

function provenanceOf(datasets: readonly Dataset[], origin: Readonly<Record<string, unknown>>): Provenance {
  const first = datasets[0]!.manifest;
  const documents = datasets.reduce((sum, dataset) => sum + dataset.documents, 0);
  return {
    inputs: [...new Set(datasets.flatMap(({ manifest }) => manifest.inputs))],
    options: { ...first.options, ...origin },
    counts: { documents },
    split: first.split,
    inputsHash: datasets.length === 1 ? first.inputsHash : null,
  };
}

/** Makes a folder under another name; it takes its own when all of it is written. */
async function replacing<T>(
  output: string,
  options: ReshapeOptions,
  make: (partial: string) => Promise<T>,
): Promise<T> {
  const target = resolve(output);
  await mkdir(dirname(target), { recursive: true });
  await using _lock = await acquireLock(`${target}.lock`, { purpose: "data merge or split" });
  if (!options.overwrite && (await stat(target).catch(() => null)))
    throw new ThalwegError(
      "BAD_OPTION",
      `output ${output} exists: choose another, remove it, or say --overwrite (overwrite: true)`,
    );
  const partial = `${target}.partial`;
  await rm(partial, { recursive: true, force: true });
  try {
    const made = await make(partial);
    await rm(target, { recursive: true, force: true });
    await rename(partial, target);
    return made;
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}
