import test from "ava";
import { parsedLines } from "../../ts/data/readers/lines.ts";
import { addon } from "../../ts/native/addon.ts";
import { randomOf, seedOf } from "./support.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The definition: what JSON.parse finds in a line, or undefined. */
function plainly(line: Buffer, field: string): string | undefined {
  try {
    const value = JSON.parse(decoder.decode(line)) as unknown;
    const plain = typeof value === "object" && value !== null && !Array.isArray(value);
    const text = plain && Object.hasOwn(value, field) ? (value as Record<string, unknown>)[field] : undefined;
    return typeof text === "string" ? text : undefined;
  } catch {
    return undefined;
  }
}

function natively(lines: Buffer, field: string, longest = 2 ** 20) {
  const out = Buffer.alloc(lines.length);
  const { ends, kinds, offsets } = addon().jsonTexts(lines, Buffer.from(field), longest, out);
  const texts = Array.from(kinds, (kind, i) =>
    kind === 2 ? undefined : out.toString("utf8", offsets[i], offsets[i + 1]),
  );
  return { ends: [...ends], kinds: [...kinds], texts };
}

const pieces = [
  '{"text":"', '"', '"}', "{", "}", "[", "]", ":", ",", " ", "\t", "\r", "\\", "\\n", "\\u0041", "\\ud83d", "\\ude00", "\\u00e9",
  "\\x", "\\u12", "text", '"text"', '"te\\u0078t"', '"a"', "null", "true", "fals", "0", "-1", "01", "1.5e-3", "1.", "1e", "-", "x",
  "häß", "→", "😀", "\ufeff", "\u2028", "\u00a0", "\u0000", "\u0019", "\u007f", "abcdefghijklm",
]; // biome-ignore format: a table
const broken = [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xe2, 0x86], [0xf0, 0x9f, 0x98], [0x80]].map((b) =>
  Buffer.from(b),
);

/** Something like a line of .jsonl; often right, often nearly. */
function randomLine(random: (below: number) => number): Buffer {
  const junk = () => Array.from({ length: random(6) }, () => pieces[random(pieces.length)]).join("");
  const value = (depth: number): unknown => {
    const kind = random(depth > 3 ? 4 : 6);
    if (kind === 0) return random(1000) / 8 - 20;
    if (kind === 1) return [null, true, false][random(3)];
    if (kind <= 3) return junk();
    if (kind === 4) return Array.from({ length: random(4) }, () => value(depth + 1));
    return Object.fromEntries(
      Array.from({ length: random(4) }, () => [["text", "a", junk()][random(3)]!, value(depth + 1)]),
    );
  };
  const text =
    random(4) === 0 ? junk() : JSON.stringify(random(3) === 0 ? value(0) : { id: value(1), text: junk(), a: value(2) });
  const bytes = Buffer.from(text.replaceAll("\n", " "));
  if (random(3) > 0) return bytes;
  const at = random(bytes.length + 1);
  const by = random(2) === 0 ? broken[random(broken.length)]! : Buffer.from(pieces[random(pieces.length)]!);
  return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(random(3) === 0 ? bytes.length : at)]);
}

test("texts read natively are those of JSON.parse, line for line, and what it refuses is never read", (t) => {
  const random = randomOf(seedOf(t));
  let read = 0;
  let refused = 0;
  for (let block = 0; block < 400; block++) {
    const lines = Array.from({ length: 25 }, () => randomLine(random));
    const ended = random(2) === 0;
    const bytes = Buffer.concat(lines.flatMap((line, i) => (i + 1 < 25 || ended ? [line, Buffer.from("\n")] : [line])));
    const found = natively(bytes, "text");
    // The last line is none when it is empty and has no line feed.
    const count = !ended && lines.at(-1)!.length === 0 ? 24 : 25;
    t.is(found.kinds.length, count);
    t.is(found.ends.at(-1), bytes.length);
    for (let i = 0; i < count; i++) {
      const expected = plainly(lines[i]!, "text");
      if (found.kinds[i] === 2) {
        refused++;
        // What JSON.parse reads may only be left to it where it is unusual; nothing here is.
        t.is(expected, undefined, lines[i]!.toString());
      } else {
        read++;
        t.is(
          found.texts[i] || undefined,
          expected?.trim() ? Buffer.from(expected).toString() : undefined,
          lines[i]!.toString(),
        );
        t.is(found.kinds[i] === 1, expected?.trim() === "", lines[i]!.toString());
      }
    }
  }
  t.true(read > 2000 && refused > 2000, `${read} read, ${refused} refused`);
});

test("inner fields, arrays, depth and long lines are left to JavaScript, with its answers", (t) => {
  const deep = `{"a":${"[".repeat(600)}${"]".repeat(600)},"text":"below"}`;
  const lines = ['{"b":{"text":"inner"}}', '["x"]', deep, `{"text":"${"y".repeat(2000)}"}`, "", "  ", '{"text":3}'];
  const block = Buffer.from(`${lines.join("\n")}\n`);
  t.deepEqual(natively(block, "text", 1999).kinds, [2, 2, 2, 2, 2, 2, 2]);
  const answers = (field: string) =>
    [...parsedLines(block, field, 1999)].map((line) =>
      line === null ? null : "utf8" in line ? line.utf8.toString() : "reason" in line ? line.reason : line.size,
    );
  const none = 'has no text in field "text"';
  t.deepEqual(answers("text"), [none, none, "below", 2011, null, null, none]);
  t.is(answers("b.text")[0], "inner");
  t.is(answers("0")[1], "x");
});
