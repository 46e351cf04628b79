import { ThalwegError } from "../base/errors.ts";
import { type Dataset, openDataset } from "./dataset.ts";
import { Permutation } from "./order.ts";
import type { DatasetManifest } from "./shards.ts";

export interface InspectOptions {
  /** Check every byte. Default false. */
  readonly verify?: boolean;
  /** Documents to show. Default 3. */
  readonly samples?: number;
  /** Characters shown of each. Default 200. */
  readonly characters?: number;
}

export interface Inspection {
  readonly folder: string;
  readonly manifest: DatasetManifest;
  /** Label and value, for a table. */
  readonly rows: readonly (readonly [string, string])[];
  readonly samples: readonly { readonly document: number; readonly tokens: number; readonly text: string }[];
  readonly verified: boolean;
  /** What is wrong with the data, when `verify` found something. */
  readonly problem: string | null;
}

/**
 * What a prepared dataset holds: figures, a few decoded documents spread over it, and whether its bytes are whole.
 * Damage that keeps it from being opened is thrown; damage that `verify` finds is `problem`.
 */
export async function inspectDataset(folder: string, options: InspectOptions = {}): Promise<Inspection> {
  await using dataset = await openDataset(folder, { cacheBytes: 0 });
  let problem: string | null = null;
  if (options.verify) {
    problem = await dataset.verify().then(
      () => null,
      (error: unknown) => {
        if (error instanceof ThalwegError) return error.message;
        throw error;
      },
    );
  }
  const { manifest } = dataset;
  const samples = problem ? [] : await sample(dataset, options.samples ?? 3, options.characters ?? 200);
  return { folder, manifest, rows: rowsOf(manifest), samples, verified: options.verify === true && !problem, problem };
}

async function sample(dataset: Dataset, count: number, characters: number): Promise<Inspection["samples"]> {
  if (dataset.documents === 0) return [];
  const tokenizer = dataset.tokenizer();
  const order = new Permutation(dataset.documents, 0, 0);
  const samples: { document: number; tokens: number; text: string }[] = [];
  for (let i = 0; i < Math.min(count, dataset.documents); i++) {
    const document = order.permute(i);
    const tokens = await dataset.document(document);
    // A token is at least one byte, so 4 tokens a character are enough whatever the script.
    const text = tokenizer.decode(tokens.subarray(0, 4 * characters)).slice(0, characters);
    samples.push({ document, tokens: tokens.length, text });
  }
  return samples;
}

function rowsOf(manifest: DatasetManifest): [string, string][] {
  const { tokenizer, split, counts } = manifest;
  const number = (value: number) => value.toLocaleString("en-US");
  const bytes = manifest.shards.reduce((sum, shard) => sum + shard.bytes, 0);
  return [
    ["dataset", manifest.name],
    ["tokens", `${number(manifest.tokens)} (${manifest.tokenType})`],
    ["documents", number(manifest.documents)],
    ["text", `${number(manifest.textBytes)} bytes, ${(manifest.textBytes / manifest.tokens).toFixed(2)} a token`],
    ["tokens a document", number(Math.round(manifest.tokens / Math.max(1, manifest.documents)))],
    ["shards", `${manifest.shards.length}, ${number(bytes)} bytes`],
    ["tokenizer", `${tokenizer.name}, ${number(tokenizer.vocabSize)} ids, ${tokenizer.hash.slice(0, 12)}`],
    ["split", `by ${split.by}, fraction ${split.fraction}, seed ${split.seed}`],
    ["entropies", manifest.shards.some((shard) => shard.entropy) ? "of each token" : "none"],
    ["inputs", manifest.inputs.join(" ")],
    ["inputs.jsonl", manifest.inputsHash === null ? "none" : manifest.inputsHash.slice(0, 16)],
    [
      "read",
      Object.entries(counts)
        .map(([name, count]) => `${number(count)} ${name}`)
        .join(", "),
    ],
    ["identity", manifest.identity.slice(0, 16)],
  ];
}
