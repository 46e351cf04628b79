// Writes native/text/unicode_*_table.cpp from what this Node knows of Unicode (process.versions.unicode):
//   node tools/generate-unicode.mjs
// Classes: \p{L}, \p{N} and White_Space, and the case of letters. Normalization: canonical decompositions and the order of combining marks, found
// by asking String.prototype.normalize. Hangul syllables are left out: they follow from arithmetic.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const lastCodePoint = 0x10ffff;
const hex = (n) => `0x${n.toString(16)}`;

/** Calls f(code point, its text) for every character; surrogates have none. */
function eachCharacter(f) {
  for (let cp = 0; cp <= lastCodePoint; cp++) {
    if (cp === 0xd800) cp = 0xe000;
    f(cp, String.fromCodePoint(cp));
  }
}

/** Numbers as C++ text, wrapped. */
function body(items) {
  const lines = [""];
  for (const item of items) {
    if (lines.at(-1).length + item.length > 117) lines.push("");
    lines[lines.length - 1] += `${item},`;
  }
  return lines.map((line) => `    ${line}`.trimEnd()).join("\n");
}

function write(name, comment, declarations) {
  const text = `// Made by tools/generate-unicode.mjs from Unicode ${process.versions.unicode}. Do not edit.
// clang-format off
#include "native/text/unicode_tables.h"

namespace thalweg::text {

// ${comment}
${declarations}
}  // namespace thalweg::text
`;
  writeFileSync(join(root, "native/text", name), text);
}

const table = (type, name, items) =>
  `const ${type} ${name}[] = {\n${body(items)}\n};\nconst size_t ${name}Count = ${items.length};\n`;

/** Where the class of characters changes: code point * 4 + class. */
function starts(classOf) {
  const found = [];
  let last = 0;
  eachCharacter((cp, text) => {
    const here = classOf(text);
    if (here !== last) found.push(hex(cp * 4 + here));
    last = here;
  });
  return found;
}

function classes() {
  const classOf = (c) => (/\p{L}/u.test(c) ? 1 : /\p{N}/u.test(c) ? 2 : /\p{White_Space}/u.test(c) ? 3 : 0);
  const version = `const char* const kUnicodeVersion = "${process.versions.unicode}";\n`;
  write(
    "unicode_classes_table.cpp",
    "Where the class changes: code point * 4 + class (0 other, 1 letter, 2 number, 3 white space).",
    version + table("uint32_t", "kClassStarts", starts(classOf)),
  );
  const caseOf = (c) =>
    /[\p{Lu}\p{Lt}]/u.test(c) ? 1 : /\p{Ll}/u.test(c) ? 2 : /[\p{Lm}\p{Lo}\p{M}]/u.test(c) ? 3 : 0;
  write(
    "unicode_cases_table.cpp",
    "Where the case changes: code point * 4 + case (0 none, 1 upper or title, 2 lower, 3 another letter or a mark).",
    table("uint32_t", "kCaseStarts", starts(caseOf)),
  );
}

/** Every character with a canonical decomposition into one or two, which may decompose further. */
function decompositions() {
  const full = new Map();
  const byFull = new Map();
  eachCharacter((cp, text) => {
    const parts = text.normalize("NFD");
    if (parts === text || (cp >= 0xac00 && cp <= 0xd7a3)) return;
    full.set(cp, parts);
    if (!byFull.has(parts) || text.normalize("NFC") === text) byFull.set(parts, text);
  });
  const entries = [];
  for (const [cp, parts] of full) {
    const points = [...parts];
    const last = points.length > 1 ? points.pop() : "";
    const head = points.join("");
    const first = points.length === 1 ? head : byFull.get(head);
    if (first === undefined) throw new Error(`${hex(cp)} is not made of two characters`);
    const composes = last !== "" && (first + last).normalize("NFC") === String.fromCodePoint(cp);
    entries.push({ cp, first: first.codePointAt(0), last: last === "" ? 0 : last.codePointAt(0), composes });
  }
  return entries;
}

/**
 * The canonical combining classes, renumbered 1, 2, ... in their order: normalization sorts marks by class, so two marks
 * that swap tell which class is lower.
 */
function markClasses() {
  const swaps = (a, b) => (a + b).normalize("NFD") !== a.normalize("NFD") + b.normalize("NFD");
  const highest = "\u0345";
  const lowest = "\u0334";
  const marks = [];
  eachCharacter((_, text) => {
    if ([...text.normalize("NFD")].length > 1) return;
    if (text === highest || text === lowest || swaps(highest, text) || swaps(text, lowest)) marks.push(text);
  });
  const groups = [];
  for (const mark of marks) {
    let [low, high] = [0, groups.length];
    let same = false;
    while (low < high && !same) {
      const middle = (low + high) >> 1;
      const one = groups[middle][0];
      if (swaps(one, mark)) high = middle;
      else if (swaps(mark, one)) low = middle + 1;
      else {
        same = true;
        groups[middle].push(mark);
      }
    }
    if (!same) groups.splice(low, 0, [mark]);
  }
  return groups.flatMap((group, i) => group.map((mark) => [mark.codePointAt(0), i + 1])).sort((a, b) => a[0] - b[0]);
}

function normalization() {
  const pairs = decompositions().map(
    ({ cp, first, last, composes }) => `{${hex(cp * 2 + (composes ? 1 : 0))},${hex(first)},${hex(last)}}`,
  );
  const ranges = [];
  for (const [cp, order] of markClasses()) {
    const range = ranges.at(-1);
    if (range && range.last === cp - 1 && range.order === order) range.last = cp;
    else ranges.push({ first: cp, last: cp, order });
  }
  const marks = ranges.map(({ first, last, order }) => `{${hex(first)},${hex(last)},${order}}`);
  write(
    "unicode_compositions_table.cpp",
    "Canonical decompositions {code point * 2 + (1 when the pair composes back), first, last or 0}.",
    table("Decomposition", "kDecompositions", pairs),
  );
  write(
    "unicode_marks_table.cpp",
    "Combining marks {first, last, place of their canonical combining class}.",
    table("MarkRange", "kMarks", marks),
  );
}

classes();
normalization();
