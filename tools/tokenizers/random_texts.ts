/** Random numbers below n from a seed (mulberry32): enough for test texts. */
export function randomInts(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** Blocks of Unicode worth mixing: first code point, last. */
const blocks: readonly (readonly [number, number])[] = [
  [0x20, 0x7e],
  [0x61, 0x7a],
  [0x00, 0x20],
  [0x80, 0x2ff],
  [0x300, 0x36f],
  [0x370, 0x52f],
  [0x590, 0x6ff],
  [0x900, 0x97f],
  [0xe00, 0xe7f],
  [0x1100, 0x11ff],
  [0x1e00, 0x1fff],
  [0x2000, 0x2070],
  [0x2100, 0x218f],
  [0x2460, 0x24ff],
  [0x2581, 0x2582],
  [0x3000, 0x30ff],
  [0x4e00, 0x4fff],
  [0xac00, 0xad00],
  [0xf900, 0xfaff],
  [0xfb00, 0xfb4f],
  [0xff00, 0xffef],
  [0x1d400, 0x1d7ff],
  [0x1f300, 0x1f6ff],
  [0x2f800, 0x2fa1d],
];

const phrases = [
  "'s",
  "'ll",
  "'T",
  " don't",
  "  ",
  "   ",
  "\n\n",
  "\r\n",
  "\t",
  " the",
  "The ",
  "end.",
  " 123",
  "3.14",
  "e\u0301",
  "\u0344",
  "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}",
  "\u{1f1e9}\u{1f1ea}",
  "\u00a0",
  "\u3000",
  "\u0085",
  "\ufeff",
  "\u200b",
  "\ufffd",
  "\u1100\u1161\u11a8",
  "\u212b",
  "\u0958",
  "\u1e9b\u0323",
  "\ud834\udd5e",
  "<|endoftext|>",
  "<s>",
  "<unk>",
  "<0x0A>",
  "\u2581",
  "'S",
  "I'VE",
  "'\u017f",
  "\r\n \n",
  " \t\n  ",
  "//\n",
  "./a",
  "HTTPServer",
  "camelCase",
  "12345678",
  "\u01c5a",
  "\u02b0B",
  "A\u0301B",
  "漢A",
];

/** Texts of random pieces: characters of one block, phrases, the given tokens, long runs; well-formed UTF-16. */
export function randomTexts(seed: number, count: number, tokens: readonly string[]): string[] {
  const below = randomInts(seed);
  const pick = <T>(from: readonly T[]) => from[below(from.length)]!;
  const characters = ([first, last]: readonly [number, number], n: number) =>
    Array.from({ length: n }, () => String.fromCodePoint(first + below(last - first + 1))).join("");
  const anything = () => {
    const cp = below(0x110000 - 0x800);
    return String.fromCodePoint(cp < 0xd800 ? cp : cp + 0x800);
  };
  const piece = (): string => {
    const kind = below(20);
    if (kind < 9) return characters(pick(blocks), 1 + below(8));
    if (kind < 14) return pick(phrases);
    if (kind < 16 && tokens.length > 0) return pick(tokens);
    if (kind < 18) return " ";
    if (kind < 19) return anything();
    return below(20) === 0 ? pick(["a", "=", "ab", " ", "漢", "0", "\u0301"]).repeat(below(300)) : "";
  };
  return Array.from({ length: count }, () => Array.from({ length: below(16) }, piece).join(""));
}
