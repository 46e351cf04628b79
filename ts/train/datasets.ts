import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import { type LoaderSource, requireDocuments } from "../data/loader.ts";
import { manifestFile } from "../data/shards.ts";

/** The open data of a run. */
export interface RunData extends AsyncDisposable {
  /** The training data; of a mixture its first source, which has the tokenizer of all. */
  train: Dataset;
  /** What is mixed, by name; one without a mixture. */
  sources: LoaderSource[];
  /** What is evaluated, by name; empty when there is nothing. */
  validations: LoaderSource[];
  /** Equal identities mean the same sources with the same tokens. */
  identity: string;
}

const isDataset = (folder: string): boolean => existsSync(join(folder, manifestFile));

/** A folder may be a split itself, or one that `data prepare` made, with train/ and validation/ in it. */
function splitFolders(folder: string): { train: string; validation: string | null } {
  const nested = !isDataset(folder) && isDataset(join(folder, "train"));
  const parent = nested ? folder : basename(folder) === "train" ? dirname(folder) : null;
  const beside = parent === null ? null : join(parent, "validation");
  return {
    train: nested ? join(folder, "train") : folder,
    validation: beside !== null && isDataset(beside) ? beside : null,
  };
}

/** Training folders by name; without a mixture one, named "train". */
function sourceFolders({ train, weights }: RunConfig["data"]): [string, string][] {
  return !weights ? [["train", train]] : Object.keys(weights).map((name) => [name, join(train, name)]);
}

/** Folders of validation data by name; one without a name of its own is called "validation". */
export function validationFolders(data: RunConfig["data"]): [string, string][] {
  if (typeof data.validation === "string") return [["validation", data.validation]];
  if (data.validation !== null) return Object.entries(data.validation);
  return sourceFolders(data).flatMap(([name, folder]) => {
    const { validation } = splitFolders(folder);
    return validation === null ? [] : [[data.weights ? name : "validation", validation] as [string, string]];
  });
}

/**
 * Opens everything. @throws BAD_INPUT or CORRUPT_DATA as openDataset does; BAD_INPUT when tokenizers differ; BAD_CONFIG
 * when attention is to stay inside documents that are not known.
 */
export async function openRunData(data: RunConfig["data"]): Promise<RunData> {
  const sources = await openAll(sourceFolders(data).map(([name, folder]) => [name, splitFolders(folder).train]));
  let validations: LoaderSource[] = [];
  const close = () => closeAll([...sources, ...validations]);
  try {
    validations = await openAll(validationFolders(data));
    refuseOtherTokenizers([...sources, ...validations]);
    if (data.attention === "documents") requireDocuments([...sources, ...validations]);
    const train = sources[0]!.dataset;
    const identity = data.weights ? identityOf(sources) : train.identity;
    return { train, sources, validations, identity, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens datasets by name and folder, all of them or none. */
export async function openAll(folders: readonly (readonly [string, string])[]): Promise<LoaderSource[]> {
  const found: LoaderSource[] = [];
  try {
    for (const [name, folder] of folders) found.push({ name, dataset: await openDataset(folder) });
    return found;
  } catch (error) {
    await closeAll(found);
    throw error;
  }
}

export async function closeAll(sources: readonly LoaderSource[]): Promise<void> {
  await Promise.all(sources.map(({ dataset }) => dataset.close()));
}

function identityOf(sources: readonly LoaderSource[]): string {
  const lines = sources.map(({ name, dataset }) => `${name} ${dataset.identity}`).sort();
  return createHash("sha256")
    .update(["thalweg mixture 1", ...lines].join("\n"))
    .digest("hex");
}

function refuseOtherTokenizers(all: readonly LoaderSource[]): void {
  const { dataset: first } = all[0]!;
  const other = all.find(({ dataset }) => dataset.manifest.tokenizer.hash !== first.manifest.tokenizer.hash);
  if (!other) return;
  throw new ThalwegError(
    "BAD_INPUT",
    `${other.dataset.folder} was made with another tokenizer (${other.dataset.manifest.tokenizer.name}) than ${first.folder} (${first.manifest.tokenizer.name}): prepare both with the same one.`,
  );
}

/** The same for a dry run, which may plan for data that are not here yet: null when the training folder does not exist. */
export async function openRunDataIfPresent(data: RunConfig["data"]): Promise<RunData | null> {
  return existsSync(data.train) ? openRunData(data) : null;
}

/** Sequences of `length` in a dataset; the last token is only a target. */
export const sequencesIn = (dataset: Dataset, length: number): number =>
  Math.max(0, Math.floor((dataset.tokens - 1) / length));
