import test from "ava";
import { benchLoader } from "../../ts/data/bench/loader.ts";
import { benchPrepare } from "../../ts/data/bench/prepare.ts";
import { benchTokenize } from "../../ts/data/bench/tokenize.ts";
import { temporaryFolder, writeTree } from "./support.ts";

test("the benchmark counts the same tokens for every contestant and names itself first", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.txt": "It's a text.", "b.txt": "Another one, 3 lines\n\n\nlong." });
  const options = { inputs: [folder], threads: 1, rounds: 2, maxBytes: 1e6 };
  const rounds: number[] = [];
  const { texts, bytes, speeds } = await benchTokenize({
    ...options,
    tokenizer: "gpt2",
    onRound: (round) => rounds.push(round),
  });
  t.deepEqual([texts, bytes, rounds], [2, 40, [0, 1, 2]]);
  t.deepEqual(
    speeds.map((speed) => speed.name),
    ["thalweg", "gpt-tokenizer (one thread)"],
  );
  t.is(speeds[0]!.ratio, 1);
  t.is(speeds[0]!.tokens, speeds[1]!.tokens);
  t.is((await benchTokenize({ ...options, tokenizer: "bytes" })).speeds.length, 1);
  await t.throwsAsync(benchTokenize({ ...options, tokenizer: "gpt2", python: "/nonexistent/python" }), {
    message: /pip install tokenizers/,
  });
});

test("the benchmark of prepare writes as much text as asked and counts what became of it, in a process of its own", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.txt": "some text ".repeat(300), "b.txt": "more" });
  const rounds: number[] = [];
  const onRound = (round: number) => rounds.push(round);
  const asked = { inputs: [folder], tokenizer: "bytes", threads: 1, rounds: 2, megabytes: 0.05, onRound };
  const found = await benchPrepare(asked);
  t.true(found.bytes >= 50_000 && found.bytes < 54_000, `${found.bytes}`);
  // About 3,100 bytes of two lines, over and over; none is taken for a duplicate.
  t.true(found.documents > 25, `${found.documents}`);
  t.true(found.tokens > 45_000 && found.peakBytes > 2 ** 20 && found.megabytesPerCpuSecond > 0);
  t.deepEqual([found.threads, rounds], [1, [1, 2]]);
  await t.throwsAsync(benchPrepare({ ...asked, inputs: [temporaryFolder(t)] }), { code: "BAD_INPUT" });
});

test("the benchmark of the loader reads each shape, from memory or from files", async (t) => {
  const shapes = [
    [2, 16],
    [3, 64],
  ] as const;
  const found = await benchLoader({ megatokens: 0.1, shapes, roundMegatokens: 0.001, rounds: 2 });
  t.deepEqual([found.tokens, found.shards, found.inMemory], [131_072, 1, true]);
  t.deepEqual(
    found.speeds.map(({ sequences, length }) => [sequences, length]),
    shapes.map((shape) => [...shape]),
  );
  t.true(found.speeds.every((speed) => speed.tokensPerSecond > 0 && speed.tokensPerCpuSecond > 0));
});
