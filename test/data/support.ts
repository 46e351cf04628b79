import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ExecutionContext } from "ava";
import { type Dataset, openDataset } from "../../ts/data/dataset.ts";
import { DatasetWriter, type Provenance } from "../../ts/data/shards.ts";
import { BytesTokenizer, type Tokenizer } from "../../ts/data/tokenizers/index.ts";

/** A folder of its own, removed after the test. */
export function temporaryFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "thalweg-data-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes files by relative path. */
export function writeTree(folder: string, files: Record<string, string | Buffer>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

const provenance: Provenance = {
  inputs: ["test"],
  options: {},
  counts: {},
  split: { by: "document", fraction: 0, seed: 0 },
  inputsHash: null,
};

/** A dataset of the given documents (token ids, no end tokens). */
export async function makeDataset(
  t: ExecutionContext,
  documents: readonly (readonly number[])[],
  options: { shardTokens?: number; tokenizer?: Tokenizer; cacheBytes?: number } = {},
): Promise<Dataset> {
  const folder = join(temporaryFolder(t), "data");
  mkdirSync(folder);
  await writeDataset(folder, documents, options.shardTokens, options.tokenizer);
  const dataset = await openDataset(folder, { cacheBytes: options.cacheBytes ?? 2 ** 26 });
  t.teardown(() => dataset.close());
  return dataset;
}

export async function writeDataset(
  folder: string,
  documents: readonly (readonly number[])[],
  shardTokens = 2 ** 20,
  tokenizer: Tokenizer = new BytesTokenizer(),
): Promise<void> {
  const writer = new DatasetWriter(folder, "test", tokenizer, { shardTokens });
  for (const document of documents) await writer.add(Int32Array.from(document), null, document.length);
  await writer.finish(provenance);
}

/** 0, 1, 2, ... below 65536: a token tells its own place. */
export function counting(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i % 65536);
}

/** A tokenizer in name only, to write shards of any vocabulary. */
export function namedTokenizer(vocabSize: number): Tokenizer {
  const hash = vocabSize.toString(16).padStart(64, "0");
  return {
    name: "test",
    vocabSize,
    eos: null,
    hash,
    encode: () => new Int32Array(),
    encodeBatch: async () => ({ ids: new Uint32Array(), offsets: new Uint32Array(1) }),
    decode: () => "",
    files: () => ({}),
  };
}

/** Whether .zst and .parquet can be read here: npm may leave their packages out. */
export function optionalPackagesInstalled(): boolean {
  const folders = createRequire(import.meta.url).resolve.paths("fzstd") ?? [];
  const names = ["fzstd", "hyparquet", "hyparquet-compressors"];
  return names.every((name) => folders.some((folder) => existsSync(join(folder, name))));
}

/** The seed of a random test, printed when it fails; THALWEG_TEST_SEED repeats one. */
export function seedOf(t: ExecutionContext): number {
  const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 2 ** 31);
  t.log(`seed ${seed}`);
  return seed;
}

/** A small generator of 32-bit numbers (mulberry32), so that a seed repeats a failure. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let h = Math.imul(state ^ (state >>> 15), state | 1);
    h ^= h + Math.imul(h ^ (h >>> 7), h | 61);
    return Math.floor((((h ^ (h >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Every file under a folder with its hash. */
export function fingerprint(folder: string): [string, string][] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort()
    .map((name) => [
      name,
      createHash("sha256")
        .update(readFileSync(join(folder, name)))
        .digest("hex"),
    ]);
}
