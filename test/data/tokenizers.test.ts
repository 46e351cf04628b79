import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { encode as oracle } from "gpt-tokenizer/encoding/r50k_base";
import { listFiles, readDocuments } from "../../ts/data/readers/index.ts";
import { loadTokenizer } from "../../ts/data/tokenizers/index.ts";
import { temporaryFolder, writeTree } from "./support.ts";

const bytes = loadTokenizer("bytes");
const gpt2 = loadTokenizer("gpt2");
const expected = (text: string) => oracle(text, { disallowedSpecial: new Set() }).join(" ");
const actual = (text: string) => gpt2.encode(text).join(" ");

/**
 * GPT-2's words are written for Unicode White_Space; the oracle uses JavaScript's \s, which has U+FEFF and lacks U+0085.
 * Those two are tested apart.
 */
const oracleAgrees = (text: string) => !/[\u0085\ufeff]/.test(text);

/** Lone surrogates have no bytes: they come back as U+FFFD. */
const wellFormed = (text: string) => Buffer.from(text, "utf8").toString("utf8");

test("bytes are their own ids, 256 ends a document", (t) => {
  t.deepEqual([...bytes.encode("A😀")], [0x41, 0xf0, 0x9f, 0x98, 0x80]);
  t.deepEqual([bytes.vocabSize, bytes.eos], [257, 256]);
  t.is(bytes.decode([0x41, 256, 0xf0, 0x9f, 300]), "A<|endoftext|>\ufffd\ufffd");
});

test("any text comes back from its ids", (t) => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
      for (const tokenizer of [bytes, gpt2]) t.is(tokenizer.decode(tokenizer.encode(text)), wellFormed(text));
    }),
  );
});

test("GPT-2 ids equal gpt-tokenizer's on the text of the installed packages", async (t) => {
  let [documents, characters] = [0, 0];
  for await (const { id, text } of readDocuments(await listFiles(["packages:node_modules"]))) {
    // Every tenth, to see all packages in little time.
    if (documents++ % 10 !== 0 || !oracleAgrees(text)) continue;
    t.true(actual(text) === expected(text), `ids differ in ${id}`);
    characters += text.length;
  }
  t.true(characters > 1e6, `${characters} characters`);
});

test("GPT-2 ids equal gpt-tokenizer's on fuzzed Unicode, lone surrogates and long runs", (t) => {
  const unit = fc.oneof(
    { weight: 4, arbitrary: fc.string({ unit: "binary" }) },
    { weight: 2, arbitrary: fc.string({ unit: "grapheme" }) },
    {
      weight: 2,
      arbitrary: fc.constantFrom(" ", "  ", "\n", "\t ", "'s", "'ll", "'T", "a", "the", "٣", "é", "漢字", "ſ"),
    },
    { weight: 1, arbitrary: fc.constantFrom("\ud800", "\udc00", "\u3000", "\u180e", "\u001c", "<|endoftext|>") },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom("a", "=", "漢", "ab", "0", " "), fc.integer({ min: 40, max: 400 }))
        .map(([text, count]) => text.repeat(count)),
    },
  );
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 30 }), (parts) => {
      const text = parts.join("");
      if (oracleAgrees(text)) t.is(actual(text), expected(text));
    }),
    { numRuns: 300 },
  );
});

test("long words merge as short ones do, and a word of a million characters ends", (t) => {
  const letters = fc.string({ unit: fc.constantFrom(..."etaoinshrdluABCé漢"), minLength: 49, maxLength: 600 });
  fc.assert(
    fc.property(letters, (word) => {
      t.is(actual(word), expected(word));
    }),
    { numRuns: 200 },
  );
  const long = "abracadabra".repeat(100_000);
  t.true(gpt2.decode(gpt2.encode(long)) === long);
});

test("white space is Unicode's: U+0085 is, U+FEFF is not", (t) => {
  // Ids from tiktoken 0.14 and Hugging Face tokenizers 0.23, which agree.
  t.deepEqual([...gpt2.encode("a \u0085b")], [64, 220, 126, 227, 65]);
  t.deepEqual([...gpt2.encode("\ufeffimport x")], [171, 119, 123, 11748, 2124]);
  t.deepEqual([...gpt2.encode("a \ufeff b")], [64, 27332, 119, 123, 275]);
});

test("a batch of UTF-8 gives each text's ids, invalid bytes counting as U+FFFD", async (t) => {
  const broken = Buffer.from([0x61, 0xf0, 0x9f, 0x98, 0x20, 0xc0, 0xaf, 0xed, 0xa0, 0x80, 0xff]);
  const texts = ["It's 3 o'clock", "", "\ufeffünï 漢字", "a".repeat(1000)].map((text) => Buffer.from(text));
  for (const tokenizer of [bytes, gpt2]) {
    const { ids, offsets } = await tokenizer.encodeBatch([...texts, broken]);
    t.true(ids instanceof Uint16Array);
    t.is(offsets.length, 6);
    for (const [i, text] of [...texts, broken].entries()) {
      const decoded = new TextDecoder("utf-8", { ignoreBOM: true }).decode(text);
      t.deepEqual([...ids.subarray(offsets[i], offsets[i + 1])], [...tokenizer.encode(decoded)]);
    }
  }
});

test("special tokens in text are ordinary characters", (t) => {
  t.false(gpt2.encode("<|endoftext|>").includes(gpt2.eos!));
  t.is(gpt2.decode([gpt2.eos!]), "<|endoftext|>");
  t.deepEqual([gpt2.vocabSize, gpt2.eos], [50257, 50256]);
});

test("a saved tokenizer.json loads as the same tokenizer", (t) => {
  for (const tokenizer of [bytes, gpt2]) {
    const folder = writeTree(temporaryFolder(t), tokenizer.files());
    for (const spec of [folder, join(folder, "tokenizer.json")]) {
      const again = loadTokenizer(spec);
      t.is(again.hash, tokenizer.hash);
      t.is(again.name, tokenizer.name);
      t.deepEqual(again.encode("It's 3 o'clock — ünï"), tokenizer.encode("It's 3 o'clock — ünï"));
    }
  }
  t.not(bytes.hash, gpt2.hash);
});

test("tokenizer.json has GPT-2's vocabulary and merges, or 256 bytes in order and none", (t) => {
  const { model, added_tokens: added } = JSON.parse(gpt2.files()["tokenizer.json"]!);
  t.is(model.merges.length, 50_000);
  t.deepEqual(model.merges.slice(0, 5), ["Ġ t", "Ġ a", "h e", "i n", "r e"]);
  t.is(model.vocab.Ġthe, 262);
  t.deepEqual([added[0].id, added[0].content, added[0].special], [50256, "<|endoftext|>", true]);
  const small = JSON.parse(bytes.files()["tokenizer.json"]!);
  t.deepEqual(
    Object.values(small.model.vocab as Record<string, number>).sort((a, b) => a - b),
    [...Array(256).keys()],
  );
  t.deepEqual([small.model.vocab.A, small.model.vocab.Ġ, small.added_tokens[0].id], [65, 32, 256]);
});

test("specs and files that cannot be used are refused by name", (t) => {
  const root = writeTree(temporaryFolder(t), {
    "ranks.txt": "IQ== 0\nIg== 2\n",
    "few.txt": "IQ== 0\n",
    "tokenizer.json": '{"model":{"type":"Unigram"}}',
  });
  const refuse = (spec: string, code: string, message: RegExp) =>
    t.throws(() => loadTokenizer(spec), { code, message });
  refuse("gpt3", "BAD_OPTION", /expected bytes, gpt2/);
  refuse(`gpt2:${root}/none`, "BAD_INPUT", /cannot read the tokenizer file/);
  refuse(`gpt2:${root}/ranks.txt`, "BAD_INPUT", /ranks\.txt:2: found "Ig== 2", expected "<base64> 1"/);
  refuse(`gpt2:${root}/few.txt`, "BAD_INPUT", /no token for the byte 0/);
  refuse(root, "BAD_INPUT", /tokenizer\.json: model.type is "Unigram"/);
});

const samples = process.env.THALWEG_TEST_DATA;

test("GPT-2 ids and merges equal the published ones on further texts (THALWEG_TEST_DATA)", (t) => {
  const folder = join(samples ?? "", "text");
  if (!samples || !existsSync(folder)) {
    t.log("skipped: THALWEG_TEST_DATA names no folder with text/*.txt");
    return t.pass();
  }
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".txt"))) {
    const text = readFileSync(join(folder, name), "utf8").replace(/[\u0085\ufeff]/g, "");
    t.true(actual(text) === expected(text), name);
  }
  const published = join(samples, "tokenizer", "gpt2", "vocab.bpe");
  if (!existsSync(published)) return t.log("no tokenizer/gpt2/vocab.bpe there");
  const merges = readFileSync(published, "utf8").trim().split("\n").slice(1);
  t.deepEqual(JSON.parse(gpt2.files()["tokenizer.json"]!).model.merges, merges);
});
