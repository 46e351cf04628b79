import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { syncPath, writeDurable } from "../../base/files.ts";
import { addon } from "../../native/addon.ts";
import { byteAlphabet, huggingFaceFiles } from "./byte_level.ts";

export interface TrainTokenizerOptions {
  /** Texts in UTF-8; what is not UTF-8 counts as U+FFFD. */
  readonly texts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** Ids in all: 256 bytes, what is learned, and <|endoftext|>. At least 257. */
  readonly vocabSize: number;
  /** A pair that occurs less often is not merged. Default 2. */
  readonly minFrequency?: number;
  /** 0, the default, for every CPU this process may use; the result does not depend on it. */
  readonly threads?: number;
  readonly onProgress?: (progress: TrainTokenizerProgress) => void;
}

export interface TrainTokenizerProgress {
  readonly bytes: number;
  /** Tokens learned, of so many wanted; 0 while words are counted. */
  readonly learned: number;
  readonly wanted: number;
}

export interface TrainedTokenizer {
  readonly vocabSize: number;
  readonly bytes: number;
  /** tokenizer.json and tokenizer_config.json. */
  readonly files: Record<string, string>;
}

const batchBytes = 8 << 20;

/**
 * Learns a byte-level BPE tokenizer with GPT-2's words (Sennrich et al. 2016; Radford et al. 2019). Equal counts are
 * decided by the smallest pair of ids, so the same texts, in any order and for any number of threads, give the same
 * bytes. Ids begin with the bytes in the order of GPT-2's alphabet, as Hugging Face's trainer has them.
 * @throws ThalwegError BAD_OPTION for a vocabulary that is too small
 */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<TrainedTokenizer> {
  const wanted = options.vocabSize - 257;
  if (!(Number.isInteger(wanted) && wanted >= 0 && wanted < 2 ** 24))
    throw new ThalwegError(
      "BAD_OPTION",
      `a vocabulary of ${options.vocabSize} ids: expected at least 257 (bytes and the end of a text)`,
    );
  const order = byteAlphabet.map((_, byte) => byte).sort((a, b) => (byteAlphabet[a]! < byteAlphabet[b]! ? -1 : 1));
  const trainer = new (addon().NativeTrainer)(idsOfBytes(order), options.threads ?? 0);
  const report = (bytes: number) => options.onProgress?.({ bytes, learned: trainer.learned(), wanted });
  let bytes = 0;
  for await (const batch of batches(options.texts)) {
    await trainer.add(batch);
    bytes += batch.reduce((sum, text) => sum + text.length, 0);
    report(bytes);
  }
  const timer = setInterval(() => report(bytes), 200);
  const merges = await trainer.learn(wanted, options.minFrequency ?? 2).finally(() => clearInterval(timer));
  report(bytes);
  const tokens = order.map((byte) => String.fromCharCode(byte));
  for (let i = 0; i < merges.length; i += 3) tokens[merges[i + 2]!] = tokens[merges[i]!]! + tokens[merges[i + 1]!]!;
  const files = huggingFaceFiles({ tokens, merges, wholeWords: false, eos: tokens.length });
  return { vocabSize: tokens.length + 1, bytes, files };
}

function idsOfBytes(order: readonly number[]): Uint32Array {
  const ids = new Uint32Array(256);
  for (const [id, byte] of order.entries()) ids[byte] = id;
  return ids;
}

async function* batches(texts: TrainTokenizerOptions["texts"]): AsyncIterable<Uint8Array[]> {
  let batch: Uint8Array[] = [];
  let bytes = 0;
  for await (const text of texts) {
    batch.push(text);
    bytes += text.length;
    if (bytes < batchBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** Writes files as a new folder, which appears whole or not at all. */
export async function writeTokenizerFolder(folder: string, files: Record<string, string>): Promise<void> {
  const target = resolve(folder);
  const partial = `${target}.partial-${process.pid}`;
  await mkdir(partial, { recursive: true });
  try {
    for (const [name, content] of Object.entries(files)) await writeDurable(join(partial, name), content);
    await syncPath(partial);
    await rename(partial, target);
    await syncPath(dirname(target));
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}
