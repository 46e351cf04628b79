import { truncateSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { type Batch, fixedBatches, ignoredTarget, TokenLoader } from "../../ts/data/loader.ts";
import { counting, makeDataset, namedTokenizer } from "./support.ts";

const tokenizer = namedTokenizer(65536);
const rows = (batch: Batch, from = batch.tokens): number[][] =>
  Array.from({ length: batch.sequences }, (_, i) => [...from.slice(i * batch.length, (i + 1) * batch.length)]);

async function walk(loader: TokenLoader, splits: readonly number[]): Promise<number[][]> {
  const all: number[][] = [];
  for (const sequences of splits) {
    const batch = rows((await loader.next(sequences))!);
    if (batch.length !== sequences) throw new Error(`asked for ${sequences} sequences, got ${batch.length}`);
    all.push(...batch);
  }
  return all;
}

test("an epoch is every whole block once, with targets one token further, across shards", async (t) => {
  const documents = [counting(100), counting(357).map((i) => i + 100), counting(44).map((i) => i + 457)];
  for (const cacheBytes of [0, 2 ** 20]) {
    const dataset = await makeDataset(t, documents, { tokenizer, shardTokens: 90, cacheBytes });
    t.is(dataset.manifest.shards.length, 3);
    const loader = new TokenLoader(dataset, { length: 10, seed: 3, onEnd: "stop" });
    t.is(loader.blocks, 50);
    const starts: number[] = [];
    for (let batch = await loader.next(5); batch; batch = await loader.next(5)) {
      t.is(batch.validTokens, 50);
      t.deepEqual(
        [...batch.targets],
        Array.from(batch.tokens, (token) => token + 1),
      );
      starts.push(...rows(batch).map((row) => row[0]!));
    }
    t.deepEqual(
      starts.sort((a, b) => a - b),
      Array.from({ length: 50 }, (_, i) => 10 * i),
    );
  }
});

test("any split into batches gives the same stream", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const expected = await walk(new TokenLoader(dataset, { length: 8, seed: 5 }), [300]);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 7 }), async (splits) => {
      const loader = new TokenLoader(dataset, { length: 8, seed: 5 });
      const got = await walk(loader, splits);
      t.deepEqual(got, expected.slice(0, got.length));
      t.is(loader.position, got.length);
    }),
    { numRuns: 50 },
  );
});

test("resuming at any position, in any epoch, goes on as the straight walk", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const expected = await walk(new TokenLoader(dataset, { length: 8, seed: 5 }), [500]);
  await fc.assert(
    fc.asyncProperty(fc.nat(480), fc.integer({ min: 1, max: 20 }), async (position, sequences) => {
      const loader = new TokenLoader(dataset, { length: 8, seed: 5 });
      await loader.next(3); // leaves a batch ahead that must not be used
      loader.seek(position);
      t.deepEqual(await walk(loader, [sequences]), expected.slice(position, position + sequences));
    }),
    { numRuns: 50 },
  );
});

test("short sequences slice the same blocks in the same order, and resume inside a block", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const long = await walk(new TokenLoader(dataset, { length: 32, seed: 1 }), [62]);
  const loader = new TokenLoader(dataset, { length: 8, maxLength: 32, seed: 1 });
  const places: [number, number][] = [];
  const short: number[][] = [];
  for (let i = 0; i < 62 * 4; i++) {
    places.push([loader.position, loader.offset]);
    short.push(...(await walk(loader, [1])));
  }
  t.deepEqual(short.flat(), long.flat());
  t.deepEqual([loader.position, loader.offset], [62, 0]);
  for (const place of [1, 2, 3, 130]) {
    const resumed = new TokenLoader(dataset, { length: 8, maxLength: 32, seed: 1 });
    resumed.seek(...places[place]!);
    t.deepEqual(await walk(resumed, [5]), short.slice(place, place + 5));
  }
});

test("a change of length on the way keeps the place", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const order = await walk(new TokenLoader(dataset, { length: 32, seed: 1 }), [4]);
  const loader = new TokenLoader(dataset, { length: 8, maxLength: 32, seed: 1 });
  t.deepEqual((await walk(loader, [5])).flat(), order.flat().slice(0, 40));
  loader.setLength(24);
  t.deepEqual((await walk(loader, [1])).flat(), order[1]!.slice(8));
  loader.setLength(32);
  t.deepEqual(await walk(loader, [1]), [order[2]!]);
});

test("epochs repeat in another order and are reported", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const loader = new TokenLoader(dataset, { length: 100 });
  t.is(loader.blocks, 9);
  const first = (await loader.next(9))!;
  const second = (await loader.next(9))!;
  t.deepEqual([first.epoch, second.epoch, loader.epoch], [0, 1, 2]);
  t.notDeepEqual(first.tokens, second.tokens);
  t.deepEqual(first.tokens.toSorted(), second.tokens.toSorted());
});

test("data that stops fills its last batch up with ignored targets, then ends", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const loader = new TokenLoader(dataset, { length: 100, onEnd: "stop" });
  await loader.next(6);
  const last = (await loader.next(6))!;
  t.is(last.validTokens, 300);
  t.true(last.targets.subarray(300).every((target) => target === ignoredTarget));
  t.true(last.targets.subarray(0, 300).every((target) => target !== ignoredTarget));
  t.is(last.position, 9);
  t.is(await loader.next(6), null);
});

test("large datasets are read from their files, whatever the width of a token and where shards end", async (t) => {
  const ids = counting(5000).map((i) => i * 13);
  const wide = namedTokenizer(70000);
  const [disk, memory] = [0, 2 ** 20].map((cacheBytes) =>
    makeDataset(t, [ids], { tokenizer: wide, shardTokens: 700, cacheBytes }),
  );
  const [a, b] = [await disk!, await memory!];
  t.deepEqual([a.cached, b.cached, a.manifest.tokenType], [false, true, "uint32"]);
  // A mixture of both kinds in one batch.
  const source = (dataset: typeof a) => new TokenLoader(dataset, { length: 300, seed: 1 });
  t.deepEqual(await walk(source(a), [3, 7, 20]), await walk(source(b), [3, 7, 20]));
  const mixed = [
    { name: "a", dataset: a },
    { name: "b", dataset: b },
  ];
  const loader = new TokenLoader(mixed, { length: 300, seed: 1 });
  const batch = (await loader.next(32))!;
  t.deepEqual(
    rows(batch, batch.targets),
    rows(batch).map((row) => row.map((id) => id + 13)),
  );
  // The files stay open until the batch ahead has been read.
  await a.close();
});

test("a file truncated while it is in use is named", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer, cacheBytes: 0 });
  const loader = new TokenLoader(dataset, { length: 100 });
  await loader.next(1);
  const file = join(dataset.folder, dataset.manifest.shards[0]!.file);
  truncateSync(file, 4096 + 2);
  await t.throwsAsync(loader.next(4), { code: "CORRUPT_DATA", message: /\.bin was truncated while in use/ });
});

test("the validation set is the same every time, whatever the batch", async (t) => {
  const dataset = await makeDataset(t, [counting(1000)], { tokenizer });
  const take = async (sequences: number, batch?: number, skip?: number) => {
    const all: number[][] = [];
    let valid = 0;
    for await (const part of fixedBatches(dataset, sequences, 10, batch, skip)) {
      all.push(...rows(part).slice(0, part.validTokens / 10));
      valid += part.validTokens;
    }
    t.is(valid, 10 * all.length);
    return all;
  };
  const expected = await take(20);
  t.is(new Set(expected.map((row) => row[0])).size, 20);
  t.deepEqual(await take(20, 7), expected);
  t.deepEqual((await take(50, 8)).slice(0, 20), expected);
  t.is((await take(5000, 64)).length, 99);
  t.deepEqual(await take(12, 5, 8), expected.slice(8), "another part of the same order");
});

test("data shorter than one sequence is refused, with what to do", async (t) => {
  const dataset = await makeDataset(t, [counting(10)], { tokenizer });
  t.throws(() => new TokenLoader(dataset, { length: 10 }), { code: "BAD_INPUT", message: /has 10 tokens.*shorten/ });
  t.is(new TokenLoader(dataset, { length: 9 }).blocks, 1);
  t.throws(() => new TokenLoader(dataset, { length: 9, maxLength: 8 }), { code: "BAD_CONFIG" });
});
