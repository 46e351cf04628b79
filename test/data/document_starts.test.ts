import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { type Dataset, openDataset } from "../../ts/data/dataset.ts";
import { type Batch, fixedBatches, TokenLoader } from "../../ts/data/loader.ts";
import { headerBytes, layoutOf } from "../../ts/data/shard_format.ts";
import { ShardWriter } from "../../ts/data/shard_writer.ts";
import { writeManifest } from "../../ts/data/shards.ts";
import { makeDataset, namedTokenizer, randomOf, seedOf, temporaryFolder } from "./support.ts";

const tokenizer = namedTokenizer(65536);

/** Documents whose tokens are the document's number: a straight walk over tokens finds where each begins. */
const numbered = (lengths: readonly number[]): number[][] => lengths.map((n, i) => new Array<number>(n).fill(i));

/** Of each row: the last position at which the token changed. */
function walked(batch: Batch): number[] {
  const { tokens, length } = batch;
  let start = 0;
  return Array.from(tokens, (token, i) => {
    const position = i % length;
    if (position === 0) start = 0;
    else if (token !== tokens[i - 1]) start = position;
    return start;
  });
}

/** The mean over tokens of the length of their piece, token by token. */
function contextOf({ starts, length }: Batch): number {
  const pieces = new Map<string, number>();
  const pieceOf = (start: number, i: number) => `${Math.floor(i / length)}:${start}`;
  starts!.forEach((start, i) => {
    pieces.set(pieceOf(start, i), (pieces.get(pieceOf(start, i)) ?? 0) + 1);
  });
  return Array.from(starts!, (start, i) => pieces.get(pieceOf(start, i))!).reduce((a, b) => a + b, 0) / starts!.length;
}

/** Lengths of documents: many short ones, some empty, some longer than a sequence. */
function randomLengths(seed: number, count: number): number[] {
  const random = randomOf(seed);
  return Array.from({ length: count }, () => [1, 1 + random(5), random(40), random(300), 0][random(5)]!);
}

test("starts are those of a straight walk, at any position, length, split and width of token, in files and in memory", async (t) => {
  const seed = seedOf(t);
  const lengths = randomLengths(seed, 3000);
  const datasets: Dataset[] = [];
  for (const cacheBytes of [0, 2 ** 26])
    for (const vocab of [65536, 70000])
      datasets.push(
        await makeDataset(t, numbered(lengths), { tokenizer: namedTokenizer(vocab), shardTokens: 30000, cacheBytes }),
      );
  t.true(datasets[0]!.manifest.shards.length > 1);
  t.true(datasets[0]!.manifest.shards[0]!.documents > 512, "more ends than are read at once");
  await fc.assert(
    fc.asyncProperty(fc.nat(3), fc.nat(100), fc.nat(47), fc.integer({ min: 1, max: 9 }), async (d, at, slice, rows) => {
      const loader = new TokenLoader(datasets[d]!, { length: 16, maxLength: 48, seed: 2, documents: true });
      await loader.next(1); // leaves a batch ahead
      const length = 1 + ((at * 7) % 48);
      loader.seek(at, slice % (49 - length));
      loader.setLength(length);
      const batch = (await loader.next(rows))!;
      t.deepEqual([...batch.starts!], walked(batch));
      t.true(Math.abs(batch.context! - contextOf(batch)) < 1e-9 * batch.length);
    }),
    { numRuns: 60, seed },
  );
});

test("resuming gives the starts of the uninterrupted walk; those of a mixture follow their sources", async (t) => {
  const seed = seedOf(t);
  const [a, b] = [
    await makeDataset(t, numbered(randomLengths(seed, 300)), { tokenizer, cacheBytes: 0 }),
    await makeDataset(t, numbered(randomLengths(seed + 1, 300)), { tokenizer }),
  ];
  const sources = [
    { name: "a", dataset: a },
    { name: "b", dataset: b },
  ];
  const make = () => new TokenLoader(sources, { length: 32, seed: 1, documents: true });
  const straight = (await make().next(200))!;
  t.deepEqual([...straight.starts!], walked(straight));
  const resumed = make();
  resumed.seek(120);
  t.deepEqual((await resumed.next(80))!.starts, straight.starts!.subarray(120 * 32));
});

test("what attention costs is known by hand: pieces of 3, 5 and 8 tokens, and one document over two sequences", async (t) => {
  const dataset = await makeDataset(t, numbered([3, 5, 8, 33]), { tokenizer });
  const contexts: number[] = [];
  for (let position = 0; position < 3; position++) {
    const loader = new TokenLoader(dataset, { length: 16, seed: 1, documents: true });
    loader.seek(position);
    const batch = (await loader.next(1))!;
    contexts.push(batch.context!);
  }
  t.deepEqual(
    contexts.sort((a, b) => a - b),
    [(3 * 3 + 5 * 5 + 8 * 8) / 16, 16, 16],
  );
  const plain = new TokenLoader(dataset, { length: 16, seed: 1 });
  t.is((await plain.next(1))!.context, undefined);
});

test("validation batches have starts where they are asked for; rows that count for nothing begin at 0", async (t) => {
  const dataset = await makeDataset(t, numbered(randomLengths(7, 200)), { tokenizer });
  for await (const batch of fixedBatches(dataset, 20, 30, 8, 0, true)) t.deepEqual([...batch.starts!], walked(batch));
  for await (const batch of fixedBatches(dataset, 20, 30)) t.is(batch.starts, undefined);
  t.is((await new TokenLoader(dataset, { length: 30 }).next(2))!.starts, undefined);
});

test("data without a document index is refused, naming the field", async (t) => {
  const folder = join(temporaryFolder(t), "data");
  mkdirSync(folder);
  const { vocabSize, hash } = tokenizer;
  const writer = await ShardWriter.create(join(folder, "shard-00000.bin"), {
    type: "uint16",
    vocabSize,
    tokenizerHash: hash,
  });
  await writer.add(new Int32Array(100), null);
  const written = await writer.finish();
  await writer.close();
  const shards = [{ file: "shard-00000.bin", ...written }];
  const facts = { name: "data", tokenizer, tokens: 100, documents: 0, textBytes: 100, shards };
  const split = { by: "document", fraction: 0, seed: 0 };
  await writeManifest(folder, { ...facts, inputs: [], options: {}, counts: {}, split, inputsHash: null }, {});
  await using dataset = await openDataset(folder);
  const refusal = { code: "BAD_CONFIG", message: /data\.attention is documents.*without a document index/ };
  t.throws(() => new TokenLoader(dataset, { length: 10, documents: true }), refusal);
  await t.throwsAsync(fixedBatches(dataset, 1, 10, 1, 0, true).next(), refusal);
  t.is((await new TokenLoader(dataset, { length: 10 }).next(1))!.validTokens, 10);
});

test("a damaged document index is named", async (t) => {
  const dataset = await makeDataset(t, numbered([40, 40, 40]), { tokenizer, cacheBytes: 0 });
  const file = join(dataset.folder, dataset.manifest.shards[0]!.file);
  const whole = readFileSync(file);
  const { indexOffset } = layoutOf({ type: "uint16", tokens: 120, documents: 3 });
  t.true(indexOffset > headerBytes);
  // Ends 40 80 120 -> out of order; and too early.
  for (const ends of [
    [80n, 40n, 120n],
    [40n, 80n, 100n],
  ]) {
    const bytes = Buffer.from(whole);
    for (const [i, end] of ends.entries()) bytes.writeBigUInt64LE(end, indexOffset + 8 * i);
    writeFileSync(file, bytes);
    const loader = new TokenLoader(dataset, { length: 119, documents: true });
    await t.throwsAsync(loader.next(1), { code: "CORRUPT_DATA", message: /\.bin has a damaged document index/ });
  }
});
