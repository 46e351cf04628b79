import test from "ava";
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
