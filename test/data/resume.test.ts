import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import test from "ava";
import { openDataset } from "../../ts/data/dataset.ts";
import { Deduplicator } from "../../ts/data/deduplicate.ts";
import { prepare } from "../../ts/data/prepare.ts";
import type { PrepareOptions } from "../../ts/data/prepare_job.ts";
import { BytesTokenizer, type TokenBatch, type Tokenizer } from "../../ts/data/tokenizers/index.ts";
import { fingerprint, temporaryFolder, writeTree } from "./support.ts";

/** Fails at its nth batch, or takes a while for some: a crash, and threads that finish out of order. */
class TroubledTokenizer extends BytesTokenizer {
  batches = 0;
  private readonly failAt: number;

  constructor(failAt = Number.POSITIVE_INFINITY) {
    super();
    this.failAt = failAt;
  }

  override async encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch> {
    const batch = this.batches++;
    if (batch >= this.failAt) throw new Error("the machine went down");
    await new Promise((resolve) => setTimeout(resolve, batch % 3 === 0 ? 5 : 0));
    return super.encodeBatch(texts);
  }
}

const line = (i: number) => `${JSON.stringify({ text: `document ${i % 900} ${"häß→😀 ".repeat(i % 23)}` })}\n`;
const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => line(from + i)).join("");

/** Files of every kind with duplicates, bad lines, and validation of their own. */
function corpus(
  root: string,
): Pick<PrepareOptions, "inputs" | "validationInputs" | "maxBadShare" | "textSplit" | "chunkBytes"> {
  writeTree(root, {
    "in/a.jsonl": lines(0, 400) + "bad\n".repeat(20) + lines(400, 1000),
    "in/b.jsonl.gz": gzipSync(lines(300, 1300)),
    "in/c.txt": Array.from({ length: 300 }, (_, i) => `part ${i} ${"text ".repeat(i % 31)}`).join("\n\n"),
    "in/d.jsonl": lines(850, 1400) + '{"text": 5}\n'.repeat(9),
    "valid.jsonl": lines(100, 150),
  });
  return {
    inputs: [join(root, "in")],
    validationInputs: [join(root, "valid.jsonl")],
    maxBadShare: 0.5,
    textSplit: "blank-line",
    chunkBytes: 2000,
  };
}

test("interrupted at any batch, once or again and again, prepare goes on to the same bytes", async (t) => {
  const root = temporaryFolder(t);
  const options = { ...corpus(root), shardTokens: 9000, batchBytes: 4000, commitSeconds: 0 };
  const whole = join(root, "whole");
  const straight = new TroubledTokenizer();
  await prepare({ ...options, output: whole, tokenizer: straight });
  const expected = fingerprint(whole);
  t.true(straight.batches > 30, `${straight.batches} batches`);
  t.true(expected.some(([name]) => name === "rejects.jsonl"));
  let resumed = 0;
  for (let at = 1; at < straight.batches; at += 7) {
    const output = join(root, `at-${at}`);
    // The first run goes down at batch `at`, the second a few batches later, the third reaches the end.
    for (const failAt of [at, 5]) {
      const run = prepare({ ...options, output, tokenizer: new TroubledTokenizer(failAt) });
      await run.catch((error) => t.regex(String(error), /went down/));
    }
    const last = await prepare({ ...options, output, tokenizer: new TroubledTokenizer(), overwrite: true });
    if (last.resumed) resumed++;
    t.deepEqual(fingerprint(output), expected, `interrupted at batch ${at}`);
  }
  t.true(resumed > 3, `${resumed} resumed`);
  t.deepEqual(
    readdirSync(root).filter((name) => /partial|lock|replaced/.test(name)),
    [],
  );
});

test("a signal commits what was done, and the same command goes on from there", async (t) => {
  const root = temporaryFolder(t);
  const options = { ...corpus(root), batchBytes: 4000, tokenizer: "bytes" };
  await prepare({ ...options, output: join(root, "whole") });
  const controller = new AbortController();
  const tokenizer: Tokenizer = new TroubledTokenizer();
  const encode = tokenizer.encodeBatch.bind(tokenizer);
  tokenizer.encodeBatch = (texts) => {
    if ((tokenizer as TroubledTokenizer).batches === 6) controller.abort(new Error("stopped"));
    return encode(texts);
  };
  const output = join(root, "out");
  await t.throwsAsync(prepare({ ...options, output, tokenizer, signal: controller.signal }), { message: "stopped" });
  t.true(readdirSync(root).includes("out.partial"));
  const { resumed } = await prepare({ ...options, output });
  t.true(resumed);
  t.deepEqual(fingerprint(output), fingerprint(join(root, "whole")));
});

test("what an interrupted run left is not taken up by another command, nor with --restart", async (t) => {
  const root = temporaryFolder(t);
  const options = { ...corpus(root), batchBytes: 4000, commitSeconds: 0, output: join(root, "out"), overwrite: true };
  const fail = () => t.throwsAsync(prepare({ ...options, tokenizer: new TroubledTokenizer(9) }), { message: /down/ });
  await fail();
  const other = await prepare({ ...options, tokenizer: "bytes", appendEos: false });
  t.false(other.resumed);
  await fail();
  const again = await prepare({ ...options, tokenizer: "bytes", restart: true });
  t.false(again.resumed);
});

test("two runs into one output exclude each other", async (t) => {
  const root = temporaryFolder(t);
  const options = { ...corpus(root), output: join(root, "out"), tokenizer: "bytes" };
  const [first, second] = await Promise.allSettled([prepare(options), prepare(options)]);
  t.deepEqual([first.status, second.status].sort(), ["fulfilled", "rejected"]);
  const { reason } = [first, second].find((r) => r.status === "rejected") as PromiseRejectedResult;
  t.is((reason as { code: string }).code, "LOCKED");
});

test("rejects and inputs are listed beside the data, and the manifest vouches for the inputs", async (t) => {
  const root = temporaryFolder(t);
  const output = join(root, "out");
  const { report } = await prepare({ ...corpus(root), output, tokenizer: "bytes" });
  const jsonl = (name: string) =>
    readFileSync(join(output, name), "utf8")
      .trim()
      .split("\n")
      .map((entry) => JSON.parse(entry));
  const rejects = jsonl("rejects.jsonl");
  t.is(rejects.length, report.bad);
  t.deepEqual(rejects[0], { file: join(root, "in/a.jsonl"), record: 401, reason: "is not JSON", text: "bad" });
  const inputs = jsonl("inputs.jsonl");
  t.deepEqual(
    inputs.map(({ file }) => file.slice(root.length + 1)),
    ["valid.jsonl", "in/a.jsonl", "in/b.jsonl.gz", "in/c.txt", "in/d.jsonl"],
  );
  t.true(inputs.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256)));
  await using dataset = await openDataset(join(output, "train"));
  t.regex(dataset.manifest.inputsHash!, /^[0-9a-f]{64}$/);
});

test("duplicates are remembered for at least a generation, in bounded memory, and across a resume", async (t) => {
  const keys = Array.from({ length: 1000 }, (_, i) => (BigInt(i) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn);
  const seen = new Deduplicator(100);
  t.true(seen.isNew(12345n, true));
  for (const [i, key] of keys.entries()) {
    t.true(seen.isNew(key), `${i}`);
    if (i >= 100) t.false(seen.isNew(keys[i - 100]!), `${i}`);
  }
  t.true(seen.isNew(keys[0]!), "forgotten after two generations");
  t.false(seen.isNew(12345n), "pinned for ever");
  const whole = new Deduplicator(100);
  for (const key of keys.slice(0, 950)) whole.isNew(key);
  for (const total of [0, 1, 99, 100, 101, 950]) {
    const before = new Deduplicator(100);
    for (const key of keys.slice(0, total)) before.isNew(key);
    const after = new Deduplicator(100);
    await after.replay(async (from, to) => BigUint64Array.from(keys.slice(from, to)), total, 0);
    for (const key of keys) t.is(after.isNew(key), before.isNew(key), `${total}`);
  }
});
