import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import test from "ava";
import { openDataset } from "../../ts/data/dataset.ts";
import { inspectDataset } from "../../ts/data/inspect.ts";
import { prepare } from "../../ts/data/prepare.ts";
import type { PrepareProgress } from "../../ts/data/prepare_job.ts";
import { isValidation } from "../../ts/data/split.ts";
import { loadTokenizer } from "../../ts/data/tokenizers/index.ts";
import { fingerprint, temporaryFolder, writeTree } from "./support.ts";

function lines(count: number, first = 0): string {
  return Array.from({ length: count }, (_, i) => `${JSON.stringify({ text: `document ${first + i} 😀` })}\n`).join("");
}

async function decoded(folder: string): Promise<string[]> {
  await using dataset = await openDataset(folder, { verify: true });
  const tokenizer = dataset.tokenizer();
  const all: string[] = [];
  for (let i = 0; i < dataset.documents; i++) all.push(tokenizer.decode(await dataset.document(i)));
  return all;
}

test("text comes back from the shards, ended by <|endoftext|>, each document in one part", async (t) => {
  for (const tokenizer of ["bytes", "gpt2"]) {
    const root = writeTree(temporaryFolder(t), { "a.jsonl": lines(300) });
    const output = join(root, "out");
    const progress: PrepareProgress[] = [];
    const summary = await prepare({
      inputs: [join(root, "a.jsonl")],
      output,
      tokenizer,
      validationFraction: 0.2,
      shardTokens: 1000,
      onProgress: (p) => progress.push(p),
    });
    const [train, validation] = [await decoded(join(output, "train")), await decoded(join(output, "validation"))];
    const expected = Array.from({ length: 300 }, (_, i) => `document ${i} 😀<|endoftext|>`);
    t.deepEqual([...train, ...validation].sort(), expected.sort());
    t.true(validation.length > 30 && validation.length < 90, `${validation.length} documents`);
    t.is(summary.train.documents + summary.validation!.documents, 300);
    t.is(summary.report.documents, 300);
    const last = progress.at(-1)!;
    t.is(last.bytesDone, last.bytesTotal);
    t.is(last.tokens, summary.train.tokens + summary.validation!.tokens);
  }
});

test("the same inputs give the same bytes, whatever the threads, batches and chunks", async (t) => {
  const root = writeTree(temporaryFolder(t), { "in/a.jsonl": lines(2000), "in/b.txt": "text", "in/c/d.md": "more" });
  const ways = [
    { threads: 1 },
    { threads: 1 },
    { threads: 2, batchBytes: 3000, chunkBytes: 1000 },
    { threads: 3, batchBytes: 500 },
  ];
  const made: [string, string][][] = [];
  for (const [i, { threads, ...way }] of ways.entries()) {
    const output = join(root, `out-${i}`);
    const tokenizer = loadTokenizer("gpt2", { threads });
    await prepare({ inputs: [join(root, "in")], output, tokenizer, shardTokens: 3000, ...way });
    made.push(fingerprint(output));
  }
  for (const one of made) t.deepEqual(one, made[0]);
  t.true(made[0]!.length > 8);
});

test("adding documents moves none between training and validation", (t) => {
  // The part is a function of id, fraction and seed alone; a larger fraction only adds to validation.
  const keys = Array.from({ length: 5000 }, (_, i) => `part.jsonl:${i}`);
  const at = (fraction: number, seed = 0) => keys.filter((key) => isValidation(key, fraction, seed));
  t.true(at(0.05).every((key) => isValidation(key, 0.1, 0)));
  // 5000 draws at 0.1: deviation 21, so 100 is nearly five of them.
  t.true(Math.abs(at(0.1).length - 500) < 100, `${at(0.1).length}`);
  t.notDeepEqual(at(0.1, 0), at(0.1, 1));
  t.deepEqual(at(0), []);
});

test("packages are split whole", async (t) => {
  const files: Record<string, string> = {};
  for (let p = 0; p < 40; p++) {
    files[`nm/p${p}/package.json`] = "{}";
    for (let f = 0; f < 3; f++)
      files[`nm/p${p}/f${f}.js`] = `// package ${p} file ${f}\n${"a line of code\n".repeat(50)}`;
  }
  const root = writeTree(temporaryFolder(t), files);
  const output = join(root, "out");
  await prepare({ inputs: [`packages:${join(root, "nm")}`], output, tokenizer: "bytes", validationFraction: 0.3 });
  const packagesOf = async (part: string) =>
    new Set((await decoded(join(output, part))).map((text) => /package (\d+)/.exec(text)![1]!));
  const [train, validation] = [await packagesOf("train"), await packagesOf("validation")];
  t.is(train.size + validation.size, 40);
  t.true([...validation].every((name) => !train.has(name)));
});

test("a single text is split at its tail; by document it is refused with what to do", async (t) => {
  const text = Array.from({ length: 1000 }, (_, i) => `line ${i} 😀😀😀\n`).join("");
  const root = writeTree(temporaryFolder(t), { "a.txt": text });
  const inputs = [join(root, "a.txt")];
  await t.throwsAsync(prepare({ inputs, output: join(root, "no"), tokenizer: "bytes" }), {
    code: "BAD_INPUT",
    message: /no validation text.*split by tail/,
  });
  t.deepEqual(readdirSync(root), ["a.txt"]);
  const options = { inputs, output: join(root, "out"), tokenizer: "bytes", appendEos: false } as const;
  await prepare({ ...options, splitBy: "tail", validationFraction: 0.1 });
  const [train, validation] = [await decoded(join(root, "out/train")), await decoded(join(root, "out/validation"))];
  t.is(train.join("") + validation.join(""), text);
  t.true(validation[0]!.startsWith("line 9"));
});

test("validation text of its own is kept out of training", async (t) => {
  const root = writeTree(temporaryFolder(t), { "train.jsonl": lines(50), "valid.jsonl": lines(10, 45) });
  const summary = await prepare({
    inputs: [join(root, "train.jsonl")],
    validationInputs: [join(root, "valid.jsonl")],
    output: join(root, "out"),
    tokenizer: "bytes",
  });
  t.deepEqual([summary.train.documents, summary.validation!.documents, summary.report.duplicates], [45, 10, 5]);
});

test("document and byte limits stop the reading; no validation makes no folder", async (t) => {
  const root = writeTree(temporaryFolder(t), { "a.jsonl": lines(100) });
  const base = { inputs: [join(root, "a.jsonl")], tokenizer: "bytes", validationFraction: 0, overwrite: true };
  const output = join(root, "out");
  const few = await prepare({ ...base, output, maxDocuments: 7 });
  t.is(few.train.documents, 7);
  t.is(few.validation, null);
  t.deepEqual(readdirSync(output), ["inputs.jsonl", "train"]);
  const bytes = await prepare({ ...base, output, maxBytes: 50 });
  t.true(bytes.train.textBytes >= 50 && bytes.train.textBytes < 70);
});

test("an existing output is kept unless overwriting is asked for; a failure keeps it too", async (t) => {
  const root = writeTree(temporaryFolder(t), { "a.jsonl": lines(100), "bad.jsonl": "x\n" });
  const output = join(root, "out");
  const good = { inputs: [join(root, "a.jsonl")], output, tokenizer: "bytes" };
  await prepare(good);
  const before = fingerprint(output);
  await t.throwsAsync(prepare(good), { code: "BAD_OPTION", message: /exists/ });
  await t.throwsAsync(prepare({ ...good, inputs: [join(root, "bad.jsonl")], overwrite: true }), { code: "BAD_INPUT" });
  await t.throwsAsync(prepare({ ...good, overwrite: true, signal: AbortSignal.abort() }), {
    any: true,
    name: "AbortError",
  });
  t.deepEqual(fingerprint(output), before);
  t.deepEqual(readdirSync(root).sort(), ["a.jsonl", "bad.jsonl", "out"]);
});

test("killed at any moment, prepare leaves no half dataset, and the next run makes the same bytes", async (t) => {
  const root = writeTree(temporaryFolder(t), { "a.jsonl": lines(20_000) });
  const script = `
    import { prepare } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, "../../ts/data/prepare.ts")).href)};
    const [input, output] = process.argv.slice(-2);
    console.log("started");
    await prepare({ inputs: [input], output, tokenizer: "bytes", shardTokens: 20000, batchBytes: 30000, chunkBytes: 30000, commitSeconds: 0 });
    console.log("done");`;
  // What a process says is kept: two words may come at once, before the second is waited for.
  const start = (output: string) => {
    const args = ["--import=tsx", "--input-type=module", "-e", script, join(root, "a.jsonl"), output];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const says = async (word: string) => t.is((await lines.next()).value, word);
    return { child, says };
  };
  const whole = join(root, "whole");
  const first = start(whole);
  await first.says("started");
  const began = performance.now();
  await first.says("done");
  const takes = performance.now() - began;
  for (const share of [0.2, 0.6, 0.95]) {
    const output = join(root, "out", `at-${share}`);
    const { child, says } = start(output);
    const exit = new Promise((resolve) => child.on("exit", resolve));
    await says("started");
    await sleep(takes * share);
    child.kill("SIGKILL");
    await exit;
    if (existsSync(output)) t.deepEqual(fingerprint(output), fingerprint(whole));
    await prepare({
      inputs: [join(root, "a.jsonl")],
      output,
      tokenizer: "bytes",
      shardTokens: 20000,
      batchBytes: 30000,
      overwrite: true,
    });
    t.deepEqual(fingerprint(output), fingerprint(whole));
    t.deepEqual(
      readdirSync(dirname(output)).filter((name) => !/^at-0\.\d+$/.test(name)),
      [],
    );
  }
});

test("inspect shows figures, samples and, with verify, damage", async (t) => {
  const root = writeTree(temporaryFolder(t), { "a.jsonl": lines(100) });
  const output = join(root, "out");
  await prepare({ inputs: [join(root, "a.jsonl")], output, tokenizer: "gpt2" });
  const shown = await inspectDataset(join(output, "train"), { verify: true, samples: 2, characters: 12 });
  t.true(shown.verified);
  t.is(shown.problem, null);
  t.is(Object.fromEntries(shown.rows).documents, String(shown.manifest.documents));
  t.is(shown.samples.length, 2);
  for (const { text } of shown.samples) t.regex(text, /^document \d+/);
  const shard = join(output, "train", "shard-00000.bin");
  const bytes = readFileSync(shard);
  bytes[4100]! ^= 1;
  writeTree(join(output, "train"), { "shard-00000.bin": bytes });
  const damaged = await inspectDataset(join(output, "train"), { verify: true });
  t.false(damaged.verified);
  t.regex(damaged.problem!, /shard-00000\.bin is damaged/);
});
