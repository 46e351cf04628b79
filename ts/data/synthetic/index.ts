import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { acquireLock } from "../../base/lock.ts";
import { type DatasetManifest, DatasetWriter } from "../shards.ts";
import type { Part } from "../split.ts";
import { BytesTokenizer } from "../tokenizers/index.ts";
import { type BigramOptions, BigramSource } from "./bigram.ts";
import { type FactsOptions, FactsSource } from "./facts.ts";
import { type HierarchicalOptions, HierarchicalSource } from "./hierarchical.ts";
import type { SyntheticSource } from "./source.ts";

export type { SyntheticDocument, SyntheticSource } from "./source.ts";
export { BigramSource, FactsSource, HierarchicalSource };

export const syntheticKinds = ["bigram", "facts", "hierarchical"] as const;
export type SyntheticKind = (typeof syntheticKinds)[number];

/** A language by name. @throws ThalwegError BAD_OPTION for options that make none */
export function syntheticSource(
  kind: SyntheticKind,
  options: BigramOptions & FactsOptions & HierarchicalOptions = {},
): SyntheticSource {
  if (kind === "bigram") return new BigramSource(options);
  return kind === "facts" ? new FactsSource(options) : new HierarchicalSource(options);
}

export interface SynthesizeOptions {
  readonly source: SyntheticSource;
  /** Folder to make, with train/ and validation/. */
  readonly output: string;
  /** Tokens of training data, about: whole documents, their ends included. */
  readonly tokens: number;
  /** Default: a twentieth of `tokens`. */
  readonly validationTokens?: number;
  readonly shardTokens?: number;
  /** Replace an existing output. Default false. */
  readonly overwrite?: boolean;
}

export interface SynthesizeSummary {
  readonly output: string;
  readonly train: DatasetManifest;
  readonly validation: DatasetManifest;
  /** Mean true entropy of a training token in nats, ends of documents (which are certain) included. */
  readonly meanEntropy: number;
}

/**
 * Writes generated documents as token shards with the entropy of each token beside them. Training and validation are
 * different documents of one language. The same source and sizes give the same bytes.
 */
export async function synthesize(options: SynthesizeOptions): Promise<SynthesizeSummary> {
  const { source, tokens, validationTokens = Math.ceil(tokens / 20) } = options;
  const output = resolve(options.output);
  if (!(tokens >= 1 && validationTokens >= 1))
    throw new ThalwegError("BAD_OPTION", `found ${tokens} and ${validationTokens} tokens, expected at least 1`);
  await mkdir(dirname(output), { recursive: true });
  await using _lock = await acquireLock(`${output}.lock`, { purpose: "data synthesize" });
  if (!options.overwrite && (await stat(output).catch(() => null)))
    throw new ThalwegError(
      "BAD_OPTION",
      `output ${options.output} exists: choose another, remove it, or say --overwrite (overwrite: true)`,
    );
  const partial = `${output}.partial`;
  await rm(partial, { recursive: true, force: true });
  const write = async (part: Part, wanted: number) => {
    const folder = join(partial, part);
    await mkdir(folder, { recursive: true });
    const writer = new DatasetWriter(folder, part, new BytesTokenizer(), {
      shardTokens: options.shardTokens ?? 2 ** 26,
      entropy: true,
    });
    try {
      let entropy = 0;
      while (writer.tokens < wanted) {
        const document = source.document(part, writer.documents);
        for (const value of document.entropy) entropy += value;
        await writer.add(document.tokens, 256, document.tokens.length, document.entropy);
      }
      const manifest = await writer.finish({
        inputs: [`synthetic:${source.name}`],
        options: { ...source.parameters, entropyRate: source.entropyRate },
        counts: { documents: writer.documents },
        split: { by: "stream", fraction: validationTokens / (tokens + validationTokens), seed: 0 },
        inputsHash: null,
      });
      return { manifest, meanEntropy: entropy / writer.tokens };
    } finally {
      await writer.close();
    }
  };
  const train = await write("train", tokens);
  const validation = await write("validation", validationTokens);
  await rm(output, { recursive: true, force: true });
  await rename(partial, output);
  return { output, train: train.manifest, validation: validation.manifest, meanEntropy: train.meanEntropy };
}
