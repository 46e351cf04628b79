import test from "ava";
import fc from "fast-check";
import { splitPatterns } from "../../ts/data/tokenizers/pre_tokenizer.ts";
import { addon } from "../../ts/native/addon.ts";

const rules = ["gpt2", "cl100k", "qwen2", "o200k"] as const;
type Rule = (typeof rules)[number];

/** The expression as it stands in tokenizer.json files, with Unicode's white space for \s and (?i:) written out. */
function expression(rule: Rule): RegExp {
  const source = splitPatterns[rule]
    .replaceAll("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS\u017f]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])")
    .replaceAll("\\s", "\\p{White_Space}")
    .replaceAll("\\S", "\\P{White_Space}");
  return new RegExp(source, "gu");
}

const expressions = Object.fromEntries(rules.map((rule) => [rule, expression(rule)])) as Record<Rule, RegExp>;
const byRegex = (text: string, rule: Rule) => text.match(expressions[rule]) ?? [];

function byMachine(text: string, rule: Rule): string[] {
  const bytes = Buffer.from(text, "utf8");
  let from = 0;
  return Array.from(addon().wordEnds(bytes, rule), (end) => bytes.toString("utf8", from, (from = end)));
}

/** Characters that another version of Unicode than ours may class differently: those it has not assigned. */
const comparable = (text: string) => process.versions.unicode === addon().unicodeVersion || !/\p{Cn}/u.test(text);

for (const rule of rules) {
  test(`${rule}: every assigned character of Unicode is split as by the regular expression`, (t) => {
    const wrong: string[] = [];
    // Planes 4 to 13 are empty, 15 and 16 for private use: the random texts below reach them too.
    for (let block = 0; block <= 0xe0f00; block += 0x100) {
      if ((block >= 0xd800 && block < 0xe000) || (block >= 0x40000 && block < 0xe0000)) continue;
      const characters = Array.from({ length: 0x100 }, (_, i) => String.fromCodePoint(block + i)).filter(comparable);
      const text = characters.map((c) => `a${c}1${c}.${c} ${c}${c}A${c}B`).join("");
      if (byMachine(text, rule).join("|") !== byRegex(text, rule).join("|")) wrong.push(block.toString(16));
    }
    t.deepEqual(wrong, []);
  });

  test(`${rule}: random texts are split as by the regular expression`, (t) => {
    const edge = fc.constantFrom(
      ..."'stremvldSTLEabABé漢ǅʰª٣1²ⅷ. /\n\t\r\u0085\u00a0\u3000\u200b\ufeff_-\u0301\u017f😀",
      ...["'s", "'ll", "'Re", "'\u017f", "  ", "\r\n", "12345", "ABC"],
    );
    const unit = fc.oneof({ weight: 5, arbitrary: edge }, fc.string({ unit: "binary", minLength: 1, maxLength: 3 }));
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 24 }), (parts) => {
        const text = parts.join("");
        if (comparable(text)) t.deepEqual(byMachine(text, rule), byRegex(text, rule));
      }),
      { numRuns: 5_000 },
    );
  });
}

test("text that is not UTF-8 and unknown words are refused where words are asked for", (t) => {
  t.throws(() => addon().wordEnds(Buffer.from([0x61, 0xff]), "gpt2"), { code: "BAD_INPUT" });
  t.throws(() => addon().wordEnds(Buffer.from("a"), "gpt3" as "gpt2"), { code: "BAD_INPUT", message: /words gpt3/ });
});
