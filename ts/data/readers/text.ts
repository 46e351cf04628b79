import { endOfText } from "../tokenizers/tokenizer.ts";

/** Takes bytes as they come, one character U+0000..U+00FF each, and gives back the documents that are complete. */
export interface Splitter {
  push(text: string): string[];
  /** The text after the last separator. */
  held: string;
}

/** Documents end at <|endoftext|>. */
export function endOfTextSplitter(): Splitter {
  return {
    held: "",
    push(text) {
      // A mark may lie across two chunks, so the search starts a little before the new text.
      const from = Math.max(0, this.held.length - endOfText.length);
      this.held += text;
      if (this.held.indexOf(endOfText, from) < 0) return [];
      const parts = this.held.split(endOfText);
      this.held = parts.pop()!;
      return parts;
    },
  };
}

/** Documents end at blank lines. */
export function blankLineSplitter(): Splitter {
  return {
    held: "",
    push(text) {
      const all = this.held + text;
      // White space at the end may be the start of a longer separator: it waits.
      const end = all.trimEnd().length;
      const parts = all.slice(0, end).split(/\r?\n(?:[ \t]*\r?\n)+/);
      this.held = parts.pop()! + all.slice(end);
      return parts;
    },
  };
}

/** Text of a document without the line breaks around its separators. */
export function withoutOuterBreaks(text: string): string {
  return text.replace(/^[\r\n]+|[\r\n]+$/g, "");
}
