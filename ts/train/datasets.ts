import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { RunConfig } from "../config/schema.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import { manifestFile } from "../data/shards.ts";

/** The open data of a run. */
export interface RunData extends AsyncDisposable {
  train: Dataset;
  /** null when there is no validation split. */
  validation: Dataset | null;
}

const isDataset = (folder: string): boolean => existsSync(join(folder, manifestFile));

/** data.train may be a split itself, or the folder that `data prepare` made, with train/ and validation/ in it. */
function splitFolders({ train, validation }: RunConfig["data"]): { train: string; validation: string | null } {
  const nested = !isDataset(train) && isDataset(join(train, "train"));
  const parent = nested ? train : basename(train) === "train" ? dirname(train) : null;
  const beside = parent === null ? null : join(parent, "validation");
  return {
    train: nested ? join(train, "train") : train,
    validation: validation ?? (beside !== null && isDataset(beside) ? beside : null),
  };
}

/** The folder of the validation split; null when there is none. */
export const validationFolder = (data: RunConfig["data"]): string | null => splitFolders(data).validation;

/** Opens both splits. @throws BAD_INPUT or CORRUPT_DATA as openDataset does. */
export async function openRunData(data: RunConfig["data"]): Promise<RunData> {
  const folders = splitFolders(data);
  const train = await openDataset(folders.train);
  try {
    const validation = folders.validation === null ? null : await openDataset(folders.validation);
    return {
      train,
      validation,
      async [Symbol.asyncDispose]() {
        await train.close();
        await validation?.close();
      },
    };
  } catch (error) {
    await train.close();
    throw error;
  }
}

/** The same for a dry run, which may plan for data that are not here yet: null when the training folder does not exist. */
export async function openRunDataIfPresent(data: RunConfig["data"]): Promise<RunData | null> {
  return existsSync(data.train) ? openRunData(data) : null;
}

/** Sequences of `length` in a dataset; the last token is only a target. */
export const sequencesIn = (dataset: Dataset, length: number): number =>
  Math.max(0, Math.floor((dataset.tokens - 1) / length));
