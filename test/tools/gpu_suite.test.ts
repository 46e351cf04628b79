/** The tools that run on a GPU machine, on made-up results: what they compare, when they stop, what they print. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";

const root = join(import.meta.dirname, "../..");
const tool = (name: string) => import(join(root, "tools/gpu", name)); // plain JavaScript: they run without a build
const { allCases, compareAll, compareCase, ptxHash } = await tool("conformance.mjs");
const { Budget, readJson, runPart } = await tool("suite/results.mjs");
const { allTests, jsonLines, testSummary } = await tool("suite/execute.mjs");
const { suiteTable } = await tool("suite/table.mjs");

const folder = mkdtempSync(join(tmpdir(), "thalweg-suite-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const word = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;
const exact = { name: "shuffle", tolerance: 0, words: [1, 2, 3] };
const rounded = { name: "exp2", tolerance: 1e-5, words: [word(1), word(-2.5)] };

test("a device that says what the machine says conforms", (t) => {
  const text = [{ device: "simt", name: "host" }, exact, rounded, { name: "wgmma", skipped: "needs 90" }]
    .map((line) => JSON.stringify(line))
    .join("\n");
  const whole = () => allCases(() => ({ status: 0, out: text, err: "" }));
  t.is(whole().device.name, "host");
  const results = compareAll(whole(), whole());
  t.deepEqual(
    results.map((r: { ok: boolean }) => r.ok),
    [true, true, true],
  );
  t.true(results[2].skipped);
});

test("one changed word fails its case by name and place, and no other", (t) => {
  const host = { cases: [exact, rounded] };
  const results = compareAll(host, { cases: [{ ...exact, words: [1, 2, 7] }, rounded] });
  t.like(results[0], { name: "shuffle", ok: false });
  t.regex(results[0].detail, /1 of 3 words differ: word 2 is 0x7/);
  t.true(results[1].ok);
});

test("a tolerance holds for fp32 words, and exceeding it, NaN or a missing case fails", (t) => {
  const withWord = (value: number) => compareCase(rounded, { ...rounded, words: [word(1), word(value)] });
  t.true(withWord(-2.5 * (1 + 5e-6)).ok);
  t.false(withWord(-2.5 * (1 + 5e-5)).ok);
  t.false(withWord(Number.NaN).ok);
  t.false(compareCase(rounded, undefined).ok);
  t.false(compareCase(exact, { ...exact, words: [1, 2] }).ok);
});

/** A part of three jobs of 10 s on a clock of its own; returns the record and which jobs ran. */
async function played(path: string, seconds: number, { commit = "c", failing = "" } = {}) {
  let now = 0;
  const ran: string[] = [];
  const jobs = ["a", "b", "c"].map((name) => ({
    name,
    seconds: 10,
    run: () => {
      now += 10;
      ran.push(name);
      if (name === failing) throw new Error("broken");
      return { ok: true, value: name };
    },
  }));
  const budget = new Budget(seconds, () => now);
  const record = await runPart({
    part: "p",
    subject: { commit, ptxHash: "h", device: { name: "d" } },
    jobs,
    budget,
    path,
  });
  return { record, ran };
}

test("a part begins nothing that the budget does not allow, and a second run goes on with what is left", async (t) => {
  const path = join(folder, "budget.json");
  const first = await played(path, 25);
  t.deepEqual(first.ran, ["a", "b"]);
  t.like(first.record, { complete: false, ok: true, left: ["c"] });
  t.deepEqual(readJson(path), first.record);
  const second = await played(path, 25);
  t.deepEqual(second.ran, ["c"]);
  t.true(second.record.complete);
  t.deepEqual(Object.keys(second.record.results).sort(), ["a", "b", "c"]);
  t.deepEqual((await played(path, 100)).ran, []);
});

test("results of another commit are not gone on with; a failed job says why and is measured again", async (t) => {
  const path = join(folder, "again.json");
  const { record } = await played(path, 100, { failing: "b" });
  t.like(record, { ok: false, complete: true });
  t.is(record.results.b.error, "broken");
  t.deepEqual((await played(path, 100)).ran, ["b"]);
  t.deepEqual((await played(path, 100, { commit: "d" })).ran, ["a", "b", "c"]);
});

test("a test program's failing lines are kept; a crash has no summary", (t) => {
  const text = "seed 7 (repeat ..)\nok   one\nFAIL two\n     x.cpp:3: wrong\ntests: 1 passed, 1 failed\n";
  t.deepEqual(testSummary(text), { passed: 1, failed: 1, seed: "7", failures: ["FAIL two\n     x.cpp:3: wrong"] });
  t.is(testSummary("seed 7\nok   one\n"), null);
  t.deepEqual(jsonLines('{"a":1}\nnoise\n{"b":'), [{ a: 1 }]);
});

/** A program of four cases or tests as these are printed; `ending` says how one of them ends it. */
function program(lines: string[], endings: Record<number, { status: number | string; tail?: string; skip?: boolean }>) {
  const begun: string[][] = [];
  return {
    begun,
    run: (args: string[]) => {
      begun.push(args);
      if (args[0] === "--list") return { status: 0, out: "one\ntwo\nthree\nfour\n", err: "" };
      let out = `${lines[0]}\n`;
      for (let i = args[0] === "--from" ? Number(args[1]) : 0; i + 1 < lines.length; i++) {
        const end = endings[i];
        if (!end?.skip) out += `${lines[i + 1]}\n`;
        if (end) return { status: end.status, out: out + (end.tail ?? ""), err: "said last" };
      }
      return { status: 0, out: `${out}tests: 4 passed, 0 failed\n`, err: "" };
    },
  };
}

test("the conformance cases behind one that hangs or breaks the device are run", (t) => {
  const line = (name: string, rest: object) => JSON.stringify({ name, ...rest });
  const lines = [
    JSON.stringify({ device: "cuda" }),
    line("one", { words: [1] }),
    line("two", {}),
    line("three", { error: "CUDA_ERROR" }),
    line("four", { words: [4] }),
  ];
  const { run, begun } = program(lines, {
    1: { status: "timeout", tail: '{"name":"two",', skip: true },
    2: { status: 3 },
  });
  const { cases } = allCases(run);
  t.deepEqual(begun, [[], ["--from", "2"], ["--from", "3"]]);
  t.deepEqual(
    cases.map((c: { name: string }) => c.name),
    ["one", "two", "three", "four"],
  );
  t.regex(cases[1].error, /ended at its time limit: said last/);
  t.throws(() => allCases(() => ({ status: 1, out: "", err: "no driver" })), { message: /no driver/ });
});

test("the tests behind one that hangs, crashes or breaks the device are run, with the seed of the first", (t) => {
  const lines = ["seed 9 (repeat ..)", "ok   one", "", "FAIL three\n     cudaErrorIllegalAddress (..)", "ok   four"];
  const { run, begun } = program(lines, { 1: { status: "timeout", skip: true } });
  const seeds: object[] = [];
  const summary = allTests((args: string[], env: object) => {
    seeds.push(env);
    return run(args);
  });
  t.like(summary, { passed: 2, failed: 2, seed: "9" });
  t.regex(summary.failures[0], /FAIL two\n.*time limit/);
  t.regex(summary.failures[1], /FAIL three\n.*IllegalAddress/);
  t.deepEqual(begun, [[], ["--list"], ["--from", "2"], ["--from", "3"]]);
  t.deepEqual(seeds.at(-1), { THALWEG_TEST_SEED: "9" });
});

test("the page gives shares of copy bandwidth and ratios to PyTorch's best backend", (t) => {
  const call = { group: "attention forward", name: "causal", seq: 64, headDim: 64, heads: 2, kvHeads: 2 };
  const product = { group: "matmul forward", name: "cube", rows: 2, n: 3, k: 4 };
  const bench = {
    memory: {
      lines: [
        { group: "memory", name: "copy", elements: 4, gbytesPerSecond: 4000 },
        { group: "memory", name: "rope", rows: 4, gbytesPerSecond: 3000 },
      ],
    },
    matmul: { lines: [{ ...product, tflops: 600 }] },
    attention: { lines: [{ ...call, tflops: 300, seconds: 1 }] },
    "train 10m": { batch: 8, length: 256, tokensPerSecond: 900, gflops: 2e5, plannedBytes: 2 ** 31, stepMsMedian: 0.9 },
    "train 10m, sums in any order": {
      ...{ batch: 8, length: 256, tokensPerSecond: 1200, gflops: 3e5, plannedBytes: 2 ** 31 },
    },
    "kernels of 10m": {
      commands: [
        ...[{ op: "rope", shapes: "[8,16]", calls: 2, milliseconds: 0.3, predictedMilliseconds: 0.2, share: 0.25 }],
        ...[{ op: "sum", shapes: "[8]", calls: 1, milliseconds: 0.1, share: 0.05 }],
      ],
    },
  };
  const peer = {
    memory: { about: { torch: "2.9" }, lines: [{ group: "memory", name: "copy", elements: 4, gbytesPerSecond: 4100 }] },
    matmul: { lines: [{ ...product, tflops: 500 }] },
    attention: { lines: [{ ...call, tflops: 400, backends: { flash: { tflops: 200 }, cudnn: { tflops: 400 } } }] },
    "train 10m": { ours: bench["train 10m"], theirs: { tokensPerSecond: 600, peakBytes: 2 ** 32 } },
  };
  const record = (results: object) => ({ complete: true, ok: true, left: [], results });
  const page = suiteTable({
    ...{ device: { name: "GPU", driver: "580" }, commit: "abc", ptxHash: "123", node: "20" },
    parts: {
      conformance: record({ x: { ok: false, cases: [{ name: "ldmatrix", ok: false, detail: "word 3" }] } }),
      kernels: record({ gpu_rope_test: { ok: false, passed: 2, failed: 1, error: "FAIL two" } }),
      bench: record(bench),
      peer: record(peer),
    },
  });
  for (const expected of [
    /\| rope \| 3000 \| 75% \|/,
    /\| cube forward \| 2 x 3 x 4 \| 600 \| 500 \| 1\.20 \|/,
    /flash 200, cudnn 400 \| 0\.75 \|/,
    /\| 10m \| 8 x 256 \| 900 \| 200 \| 2\.0 \| 600 \(4\.0 GiB\) \| 1\.50 \|/,
    /\| rope \[8,16\] \| 2 \| 0\.300 \| 0\.200 \| 1\.50 \| - \| 25\.0% \|/,
    /Together 0\.70 ms, predicted 0\.40; a step .* took 0\.90 ms/,
    /\| sum \[8\] \| 1 \| 0\.100 \| - \| - \| - \| 5\.0% \|/,
    /\| 10m, sums in any order \| 8 x 256 \| 1200 \| 300 \| 2\.0 \| 600 \(4\.0 GiB\) \| 2\.00 \|/,
    /FAIL ldmatrix: word 3/,
    /gpu_rope_test \| 2 \| 1/,
    /PyTorch 2\.9/,
  ])
    t.regex(page, expected);
});

test("a committed conformance result speaks of the PTX headers as they are (a warning, not a failure)", (t) => {
  const current = ptxHash(root);
  t.regex(current, /^[0-9a-f]{16}$/);
  const results = join(root, "bench/results");
  const files = existsSync(results) ? readdirSync(results).filter((name) => /^conformance-.*\.json$/.test(name)) : [];
  const known = files.map((name) => JSON.parse(readFileSync(join(results, name), "utf8")).ptxHash);
  if (!known.includes(current))
    t.log(
      `no bench/results/conformance-*.json carries the PTX hash ${current}: the kernels' instructions have not been`,
      "held against a GPU since they changed; docs/cuda.md says how",
    );
});
