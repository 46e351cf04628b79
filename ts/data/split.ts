import { createHash } from "node:crypto";

export const parts = ["train", "validation"] as const;
export type Part = (typeof parts)[number];

/**
 * Whether a key belongs to validation: its hash with the seed, as a number in [0, 1), is below the fraction. It depends
 * on nothing else, so adding documents moves none.
 */
export function isValidation(key: string, fraction: number, seed: number): boolean {
  const digest = createHash("sha256").update(`thalweg split 1 seed ${seed}\n${key}`).digest();
  return digest.readUIntBE(0, 6) / 2 ** 48 < fraction;
}

/** The last `fraction` of a text, from the next line on (or from there, when there is no further line). */
export function splitTail(text: string, fraction: number): [Part, string][] {
  const from = Math.floor(text.length * (1 - fraction));
  const line = text.indexOf("\n", from) + 1;
  let cut = line > 0 && line < text.length ? line : from;
  // Never between the halves of a surrogate pair.
  if ((text.charCodeAt(cut) & 0xfc00) === 0xdc00) cut++;
  const pieces: [Part, string][] = [
    ["train", text.slice(0, cut)],
    ["validation", text.slice(cut)],
  ];
  return pieces.filter(([, piece]) => piece !== "");
}
