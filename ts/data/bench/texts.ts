import { ThalwegError } from "../../base/errors.ts";
import { listFiles, readDocuments } from "../index.ts";

/** Texts of the inputs, until there are `maxBytes`. @throws ThalwegError BAD_INPUT when there are none */
export async function gatherTexts(inputs: readonly string[], maxBytes: number): Promise<string[]> {
  const texts: string[] = [];
  let bytes = 0;
  for await (const { text, utf8 } of readDocuments(await listFiles(inputs))) {
    texts.push(text);
    bytes += utf8.length;
    if (bytes >= maxBytes) break;
  }
  if (texts.length > 0) return texts;
  throw new ThalwegError(
    "BAD_INPUT",
    `the inputs hold no text: name files or folders with some (${inputs.join(", ")})`,
  );
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
