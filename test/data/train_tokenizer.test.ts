import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { loadTokenizer } from "../../ts/data/tokenizers/index.ts";
import { trainTokenizer } from "../../ts/data/tokenizers/train.ts";
import { trainTokenizerFromFiles } from "../../ts/data/tokenizers/train_files.ts";
import { temporaryFolder, writeTree } from "./support.ts";

/** Texts and the merges Hugging Face's trainer learns from them (tools/fixtures/make_tokenizer_fixtures.py). */
const fixture = JSON.parse(readFileSync(join(import.meta.dirname, "../fixtures/tokenizers/training.json"), "utf8")) as {
  texts: string[];
  merges: [string, string][];
};

const texts = fixture.texts.map((text) => Buffer.from(text, "utf8"));

test("the merges learned are those of Hugging Face's trainer", async (t) => {
  const { files } = await trainTokenizer({ texts, vocabSize: 257 + fixture.merges.length, minFrequency: 0 });
  const { model } = JSON.parse(files["tokenizer.json"]!);
  t.deepEqual(
    model.merges,
    fixture.merges.map((pair) => pair.join(" ")),
  );
});

test("the same texts give the same bytes for any number of threads and in any order", async (t) => {
  const large = "A river runs along the valley. ".repeat(10_000);
  const all = [...texts, Buffer.from(large, "utf8"), Buffer.from([0x61, 0xff, 0x62])];
  const one = await trainTokenizer({ texts: all, vocabSize: 700, threads: 1 });
  const three = await trainTokenizer({ texts: all.toReversed(), vocabSize: 700, threads: 3 });
  t.deepEqual(three.files, one.files);
  t.is(one.vocabSize, 700);
});

test("a trained tokenizer loads, round-trips text, and says when text ran out of pairs", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.txt": "banana bandana", "b.jsonl": '{"body":"ban"}\n' });
  const out = join(folder, "tok");
  const options = { inputs: [join(folder, "a.txt")], out, field: "text", maxBytes: 1e9, vocabSize: 1000 };
  const result = await trainTokenizerFromFiles(options);
  t.deepEqual([result.bytes, result.vocabSize], [14, 257 + 3]);
  const tokenizer = loadTokenizer(out);
  t.deepEqual([tokenizer.name, tokenizer.vocabSize, tokenizer.eos], ["bpe", 260, 259]);
  // The most frequent pair first ("an", 4 times), then what follows; of equal ones the smallest ids.
  t.is(tokenizer.decode([256]), "an");
  for (const text of ["banana bandana", "héllo 漢字 <|endoftext|>"])
    t.is(tokenizer.decode(tokenizer.encode(text)), text);
  await t.throwsAsync(trainTokenizerFromFiles(options), { code: "BAD_OPTION", message: /exists/ });
  await t.throwsAsync(trainTokenizer({ texts, vocabSize: 256 }), { code: "BAD_OPTION", message: /at least 257/ });
});
