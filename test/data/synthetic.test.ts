import { join } from "node:path";
import test from "ava";
import { openDataset } from "../../ts/data/dataset.ts";
import {
  BigramSource,
  type SyntheticSource,
  synthesize,
  syntheticKinds,
  syntheticSource,
} from "../../ts/data/synthetic/index.ts";
import { fingerprint, temporaryFolder } from "./support.ts";

/** Token by token over many documents. */
function* walk(source: SyntheticSource, documents: number) {
  for (let d = 0; d < documents; d++) {
    const { tokens, entropy, surprise } = source.document("train", d);
    for (let i = 0; i < tokens.length; i++)
      yield {
        token: tokens[i]!,
        previous: i === 0 ? -1 : tokens[i - 1]!,
        entropy: entropy[i]!,
        surprise: surprise[i]!,
      };
  }
}

test("on average a token is as surprising as its entropy says, in every language", (t) => {
  for (const kind of syntheticKinds) {
    let [count, difference, square] = [0, 0, 0];
    for (const { entropy, surprise } of walk(syntheticSource(kind, { seed: 3 }), 100)) {
      const d = surprise - entropy;
      count++;
      difference += d;
      square += d * d;
    }
    // The differences are a martingale: five standard deviations of its mean.
    const bound = (5 * Math.sqrt(square)) / count;
    t.true(Math.abs(difference / count) <= bound, `${kind}: ${difference / count} beyond ${bound}`);
  }
});

test("the entropy rate of bigrams and of the two-level chain is that of their tokens", (t) => {
  for (const kind of ["bigram", "hierarchical"] as const) {
    const source = syntheticSource(kind, { seed: 5 });
    const all = [...walk(source, 200)].map((token) => token.entropy);
    const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
    // 200,000 tokens; neighbouring ones depend on each other for a few steps. 1% is far beyond the deviation of either.
    t.true(Math.abs(mean / source.entropyRate! - 1) < 0.01, `${kind}: ${mean} for ${source.entropyRate}`);
  }
});

test("counted successors of each symbol are those the bigram states, equally often", (t) => {
  const source = new BigramSource({ seed: 1, vocab: 20, branches: [2, 5], length: 2000 });
  const counts = new Map<string, number>();
  const totals = new Map<number, number>();
  for (const { token, previous, entropy } of walk(source, 50)) {
    if (previous < 0) continue;
    const options = source.successors[previous - 33]!;
    t.true(options.includes(token - 33));
    t.is(entropy, Math.fround(Math.log(options.length)));
    counts.set(`${previous} ${token}`, (counts.get(`${previous} ${token}`) ?? 0) + 1);
    totals.set(previous, (totals.get(previous) ?? 0) + 1);
  }
  for (const [pair, count] of counts) {
    const previous = Number(pair.split(" ")[0]);
    const n = totals.get(previous)!;
    const p = 1 / source.successors[previous - 33]!.length;
    t.true(Math.abs(count - n * p) <= 5 * Math.sqrt(n * p * (1 - p)), `${pair}: ${count} of ${n}`);
  }
  const certain = source.successors.filter((options) => options.length === 1).length;
  t.is(certain, 10);
});

test("a fact is certain once its person is named; a choice is not", (t) => {
  const source = syntheticSource("facts", { seed: 2, people: 40 });
  const { tokens, entropy } = source.document("train", 0);
  const text = Buffer.from(Uint8Array.from(tokens)).toString("latin1");
  const facts = new Map<string, string>();
  for (let d = 0; d < 50; d++) {
    const all = Buffer.from(Uint8Array.from(source.document("train", d).tokens)).toString("latin1");
    for (const [, name, town] of all.matchAll(/^(\w+) was born in (\w+)\.$/gm)) {
      t.is(facts.get(name!) ?? town, town);
      facts.set(name!, town!);
    }
  }
  t.true(facts.size > 30, `${facts.size} facts`);
  for (const match of text.matchAll(/was born in (\w+)\.\n/g)) {
    const start = match.index + "was born in ".length;
    for (let i = start; i < match.index + match[0].length; i++) t.is(entropy[i], 0);
  }
  const spoken = [...text.matchAll(/then (\w)/g)].map((match) => entropy[match.index + 5]!);
  t.true(spoken.length > 0 && spoken.every((value) => value > 1.5));
});

test("documents follow from seed, stream and index alone, and seeds make different languages", (t) => {
  for (const kind of syntheticKinds) {
    const [a, b, c] = [
      syntheticSource(kind, { seed: 1 }),
      syntheticSource(kind, { seed: 1 }),
      syntheticSource(kind, { seed: 2 }),
    ];
    b.document("train", 0);
    t.deepEqual(a.document("train", 7), b.document("train", 7));
    t.notDeepEqual(a.document("train", 7).tokens, a.document("validation", 7).tokens);
    t.notDeepEqual(a.document("train", 7).tokens, c.document("train", 7).tokens);
  }
});

test("shards carry the entropy of each token beside it, twice the same bytes", async (t) => {
  const root = temporaryFolder(t);
  const source = syntheticSource("facts", { seed: 4 });
  const options = { source, tokens: 20_000, shardTokens: 7000 };
  await synthesize({ ...options, output: join(root, "a") });
  const { train, meanEntropy } = await synthesize({ ...options, output: join(root, "b") });
  t.deepEqual(fingerprint(join(root, "a")), fingerprint(join(root, "b")));
  t.true(train.shards.length > 1);
  await using dataset = await openDataset(join(root, "a", "train"), { verify: true });
  t.true(dataset.hasEntropy);
  const expected: number[] = [];
  for (let d = 0; d < dataset.documents; d++) expected.push(...source.document("train", d).entropy, 0);
  const entropy = new Float32Array(dataset.tokens);
  await dataset.readEntropy(0, dataset.tokens, entropy);
  t.deepEqual([...entropy], expected);
  t.true(Math.abs(meanEntropy - expected.reduce((sum, value) => sum + value, 0) / expected.length) < 1e-9);
  const part = new Float32Array(100);
  await dataset.readEntropy(6950, 100, part);
  t.deepEqual([...part], expected.slice(6950, 7050));
});

test("options that make no language are refused", (t) => {
  t.throws(() => syntheticSource("bigram", { vocab: 500 }), { code: "BAD_OPTION" });
  t.throws(() => syntheticSource("bigram", { branches: [] }), { code: "BAD_OPTION" });
  t.throws(() => syntheticSource("hierarchical", { topics: 1 }), { code: "BAD_OPTION" });
  t.throws(() => syntheticSource("facts", { people: 1e6 }), { code: "BAD_OPTION" });
});
