import { stat } from "node:fs/promises";
import { ThalwegError } from "../../base/errors.ts";
import { listFiles, readDocuments } from "../index.ts";
import { type TrainTokenizerOptions, trainTokenizer, writeTokenizerFolder } from "./train.ts";

export interface TrainFromFilesOptions extends Omit<TrainTokenizerOptions, "texts"> {
  /** As for `prepare`. */
  readonly inputs: readonly string[];
  /** Folder to make. */
  readonly out: string;
  readonly field: string;
  /** Stop after so many bytes of text. */
  readonly maxBytes: number;
}

/**
 * Learns a tokenizer from files and writes it as a folder.
 * @throws ThalwegError BAD_OPTION when the folder exists, BAD_INPUT when the inputs hold no text
 */
export async function trainTokenizerFromFiles(options: TrainFromFilesOptions) {
  const { inputs, out, field, maxBytes } = options;
  if (await stat(out).catch(() => null)) throw new ThalwegError("BAD_OPTION", `${out} exists: choose another folder`);
  async function* texts() {
    let bytes = 0;
    for await (const { text } of readDocuments(await listFiles(inputs), { field })) {
      const utf8 = Buffer.from(text, "utf8");
      yield utf8;
      bytes += utf8.length;
      if (bytes >= maxBytes) return;
    }
  }
  const { files, ...result } = await trainTokenizer({ ...options, texts: texts() });
  if (result.bytes === 0) throw new ThalwegError("BAD_INPUT", "the inputs hold no text");
  await writeTokenizerFolder(out, files);
  return result;
}
