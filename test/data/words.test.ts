import test from "ava";
import fc from "fast-check";
import { addon } from "../../ts/native/addon.ts";

/** GPT-2's words as its authors wrote them, with Unicode's white space for \s. */
const regex =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

const byRegex = (text: string) => text.match(regex) ?? [];

function byMachine(text: string): string[] {
  const bytes = Buffer.from(text, "utf8");
  let from = 0;
  return Array.from(addon().wordEnds(bytes), (end) => bytes.toString("utf8", from, (from = end)));
}

/** Characters that another version of Unicode than ours may class differently: those it has not assigned. */
const comparable = (text: string) => process.versions.unicode === addon().unicodeVersion || !/\p{Cn}/u.test(text);

test("every character of Unicode is split as by the regular expression", (t) => {
  const wrong: string[] = [];
  for (let block = 0; block <= 0x10ff00; block += 0x100) {
    if (block >= 0xd800 && block < 0xe000) continue;
    const characters = Array.from({ length: 0x100 }, (_, i) => String.fromCodePoint(block + i)).filter(comparable);
    const text = characters.map((c) => `a${c}1${c}.${c} ${c}${c}`).join("");
    if (byMachine(text).join("|") !== byRegex(text).join("|")) wrong.push(block.toString(16));
  }
  t.deepEqual(wrong, []);
});

test("random texts are split as by the regular expression", (t) => {
  const edge = fc.constantFrom(
    ..."'stremvldSTabé漢٣1²ⅷ. \n\t\r\u0085\u00a0\u3000\u200b\ufeff_-\u0301😀",
    "'s",
    "'ll",
    "  ",
  );
  const unit = fc.oneof({ weight: 5, arbitrary: edge }, fc.string({ unit: "binary", minLength: 1, maxLength: 3 }));
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 24 }), (parts) => {
      const text = parts.join("");
      if (comparable(text)) t.deepEqual(byMachine(text), byRegex(text));
    }),
    { numRuns: 20_000 },
  );
});

test("text that is not UTF-8 is refused where words are asked for", (t) => {
  t.throws(() => addon().wordEnds(Buffer.from([0x61, 0xff])), { code: "BAD_INPUT" });
});
