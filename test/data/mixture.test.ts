import test from "ava";
import fc from "fast-check";
import { TokenLoader } from "../../ts/data/loader.ts";
import { MixtureOrder } from "../../ts/data/mixture.ts";
import { Permutation } from "../../ts/data/order.ts";
import { counting, makeDataset, namedTokenizer } from "./support.ts";

const sources = [
  { name: "web", blocks: 5000 },
  { name: "code", blocks: 700 },
  { name: "books", blocks: 90 },
];
const stages = [
  { from: 0, weights: { web: 8, code: 1.5, books: 0.5 } },
  { from: 3000, weights: { web: 1, books: 1 } },
  { from: 20_000, weights: { code: 1 } },
  { from: 20_100, weights: { web: 8, code: 1.5, books: 0.5 } },
];

test("with one source the order is that of a single dataset, epoch after epoch", (t) => {
  const order = new MixtureOrder([{ name: "x", blocks: 1000 }], [{ from: 0, weights: { x: 7 } }], 5);
  for (const epoch of [0, 1, 40]) {
    const expected = new Permutation(1000, 5, epoch);
    for (let i = 0; i < 1000; i += 7)
      t.deepEqual(order.at(1000 * epoch + i), { source: 0, block: expected.permute(i), epoch });
  }
  t.is(order.end(), 1000);
});

test("any place found directly is the one the straight walk reaches", (t) => {
  const walked = new MixtureOrder(sources, stages, 3);
  const counts = [0, 0, 0];
  const seen: { source: number; block: number; epoch: number }[] = [];
  const before: number[][] = [];
  for (let place = 0; place < 40_000; place++) {
    before.push([...counts]);
    seen.push(walked.at(place));
    counts[seen[place]!.source]!++;
  }
  fc.assert(
    fc.property(fc.nat(39_999), (place) => {
      const order = new MixtureOrder(sources, stages, 3);
      t.deepEqual(order.countsBefore(place), before[place]);
      t.deepEqual(order.at(place), seen[place]);
      t.is(seen[place]!.epoch, Math.floor(before[place]![seen[place]!.source]! / sources[seen[place]!.source]!.blocks));
    }),
    { numRuns: 60 },
  );
});

test("each source's blocks come once an epoch, whatever the stages do", (t) => {
  const order = new MixtureOrder(sources, stages, 9);
  const epochs = new Map<string, Set<number>>();
  for (let place = 0; place < 50_000; place++) {
    const { source, block, epoch } = order.at(place);
    const key = `${source}:${epoch}`;
    const blocks = epochs.get(key) ?? new Set();
    t.false(blocks.has(block), `${key} ${block}`);
    epochs.set(key, blocks.add(block));
  }
  const whole = [...epochs.values()].filter((blocks) => [5000, 700, 90].includes(blocks.size));
  t.true(whole.length > 20, `${whole.length} whole epochs`);
});

test("shares hold exactly in each period and closely in between; the least share is still drawn", (t) => {
  const weights = { web: 0.9, code: 0.09999, books: 0.00001 };
  const order = new MixtureOrder(sources, [{ from: 0, weights }], 1);
  t.deepEqual(order.countsBefore(16_384), [14_745, 1638, 1]);
  t.deepEqual(order.countsBefore(10 * 16_384), [147_450, 16_380, 10]);
  const half = order.countsBefore(8192);
  // Drawing 8,192 of 16,384 places without replacement: a deviation of 19, so 100 is five of them.
  t.true(Math.abs(half[0]! - 7373) < 100, `${half}`);
  t.deepEqual(
    new MixtureOrder(sources, stages, 1).countsBefore(20_100).at(1),
    new MixtureOrder(sources, stages, 1).countsBefore(20_000)[1]! + 100,
  );
});

test("data that stop end before any source is read twice", (t) => {
  const order = new MixtureOrder(sources, stages, 2);
  const end = order.end();
  const fits = (place: number) => order.countsBefore(place).every((count, s) => count <= sources[s]!.blocks);
  t.true(fits(end) && !fits(end + 1));
});

test("a mixture of unknown sources, negative or no weights, or crossed stages is refused", (t) => {
  const refused = (given: ConstructorParameters<typeof MixtureOrder>[1], message: RegExp) =>
    t.throws(() => new MixtureOrder(sources, given, 0), { code: "BAD_CONFIG", message });
  refused([{ from: 0, weights: { weeb: 1 } }], /"weeb" is no source; the sources are web, code, books/);
  refused([{ from: 0, weights: { web: -1, code: 2 } }], /at least 0/);
  refused([{ from: 0, weights: { web: 0 } }], /one of them positive/);
  refused([{ from: 1, weights: { web: 1 } }], /begin at 0/);
  refused([stages[0]!, stages[2]!, stages[1]!], /follow one another/);
});

test("a loader over several sources resumes at any position, in any split, as the straight walk", async (t) => {
  const tokenizer = namedTokenizer(65536);
  const open = async (first: number, count: number) =>
    makeDataset(t, [counting(count).map((i) => first + i)], { tokenizer });
  const data = [
    { name: "a", dataset: await open(0, 2000) },
    { name: "b", dataset: await open(10_000, 300) },
    { name: "c", dataset: await open(20_000, 90) },
  ];
  const options = {
    length: 8,
    seed: 4,
    stages: [
      { from: 0, weights: { a: 3, b: 1 } },
      { from: 100, weights: { c: 1, b: 1 } },
      { from: 150, weights: { a: 1, b: 1, c: 1 } },
    ],
  };
  const take = async (loader: TokenLoader, splits: readonly number[]) => {
    const all: number[] = [];
    for (const sequences of splits) all.push(...(await loader.next(sequences))!.tokens);
    return all;
  };
  const straight = await take(new TokenLoader(data, options), [400]);
  const loader = new TokenLoader(data, options);
  t.deepEqual(await take(loader, [1, 99, 7, 43, 250]), straight);
  t.deepEqual(
    loader.counts().reduce((sum, count) => sum + count),
    400,
  );
  await fc.assert(
    fc.asyncProperty(
      fc.nat(380),
      fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
      async (at, splits) => {
        const resumed = new TokenLoader(data, options);
        resumed.seek(at);
        const got = await take(resumed, splits);
        t.deepEqual(got, straight.slice(8 * at, 8 * at + got.length));
      },
    ),
    { numRuns: 40 },
  );
  // Two workers that take every other block see, together, the blocks of the walk.
  const workers = [0, 1].map(async (worker) => {
    const own = new TokenLoader(data, options);
    const rows: number[][] = [];
    for (let at = worker; at < 400; at += 2) {
      own.seek(at);
      rows.push(await take(own, [1]));
    }
    return rows;
  });
  const [even, odd] = await Promise.all(workers);
  t.deepEqual(
    even!.flatMap((row, i) => [...row, ...odd![i]!]),
    straight,
  );
});
