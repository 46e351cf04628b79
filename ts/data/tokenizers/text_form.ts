import type { WordRule } from "../../native/addon.ts";

/** U+2581, which stands for a space in the tokens of SentencePiece. */
export const spaceMark = "\u2581";

/** How a text is made ready for merging. */
export interface TextForm {
  nfc: boolean;
  /** Spaces are written U+2581, by the normalizer or (metaspace) after added tokens have been found. */
  marks: boolean;
  metaspace: boolean;
  prefix: "none" | "space" | "missing-space" | "first";
  /** The tokens are bytes in GPT-2's alphabet; otherwise characters, and <0x41> for bytes. */
  byteLevel: boolean;
  words: WordRule;
  splitSpaces: boolean;
}
