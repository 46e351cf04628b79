import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDataset, TokenLoader } from "../index.ts";
import { DatasetWriter } from "../shards.ts";
import { randomOf } from "../synthetic/source.ts";
import { BytesTokenizer } from "../tokenizers/index.ts";
import { median } from "./texts.ts";

export interface LoaderBenchOptions {
  /** A prepared dataset; default: one made for this, of `megatokens` random tokens. */
  readonly dataset?: string | undefined;
  readonly megatokens: number;
  /** Sequences and tokens of each. */
  readonly shapes: readonly (readonly [sequences: number, length: number])[];
  /** Each shape reads this many million tokens in each round, the first of which does not count. */
  readonly roundMegatokens: number;
  readonly rounds: number;
  readonly onRound?: (round: number) => void;
}

export interface LoaderSpeed {
  readonly sequences: number;
  readonly length: number;
  /** Medians over the rounds. */
  readonly tokensPerSecond: number;
  /** Of CPU time, all threads together. */
  readonly tokensPerCpuSecond: number;
}

export interface LoaderBench {
  readonly tokens: number;
  readonly shards: number;
  /** Whether the dataset is small enough to be kept in memory; otherwise it comes from the system's page cache. */
  readonly inMemory: boolean;
  readonly speeds: readonly LoaderSpeed[];
}

/** Tokens a second of `TokenLoader.next`, as the training loop calls it, over a dataset that has just been written or read. */
export async function benchLoader(options: LoaderBenchOptions): Promise<LoaderBench> {
  const made = options.dataset === undefined ? await mkdtemp(join(tmpdir(), "thalweg-bench-")) : null;
  try {
    const folder = options.dataset ?? join(made!, "data");
    if (made !== null) await writeRandom(folder, Math.round(options.megatokens * 1e6));
    await using dataset = await openDataset(folder);
    const rounds: [perSecond: number, perCpuSecond: number][][] = [];
    for (let round = 0; round <= options.rounds; round++) {
      const found: [number, number][] = [];
      for (const [sequences, length] of options.shapes) {
        const loader = new TokenLoader(dataset, { length, seed: round });
        found.push(await measure(loader, sequences, Math.round(options.roundMegatokens * 1e6)));
      }
      if (round > 0) rounds.push(found);
      options.onRound?.(round);
    }
    const speeds = options.shapes.map(([sequences, length], s) => ({
      sequences,
      length,
      tokensPerSecond: median(rounds.map((round) => round[s]![0])),
      tokensPerCpuSecond: median(rounds.map((round) => round[s]![1])),
    }));
    const { tokens, manifest, cached: inMemory } = dataset;
    return { tokens, shards: manifest.shards.length, inMemory, speeds };
  } finally {
    if (made !== null) await rm(made, { recursive: true, force: true });
  }
}

async function measure(loader: TokenLoader, sequences: number, tokens: number): Promise<[number, number]> {
  const cpu = process.cpuUsage();
  const started = performance.now();
  let read = 0;
  while (read < tokens) read += (await loader.next(sequences))!.validTokens;
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return [read / seconds, read / ((user + system) / 1e6)];
}

async function writeRandom(folder: string, tokens: number): Promise<void> {
  await mkdir(folder);
  const writer = new DatasetWriter(folder, "bench", new BytesTokenizer(), { shardTokens: 2 ** 25 });
  const random = randomOf("bench loader");
  const document = Int32Array.from({ length: 2 ** 16 }, () => Math.floor(256 * random()));
  try {
    while (writer.tokens < tokens) await writer.add(document, null, document.length);
    await writer.finish({
      inputs: ["bench"],
      options: {},
      counts: { documents: writer.documents },
      split: { by: "document", fraction: 0, seed: 0 },
      inputsHash: null,
    });
  } finally {
    await writer.close();
  }
}
