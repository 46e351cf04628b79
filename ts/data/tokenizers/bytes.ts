import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { huggingFaceFiles } from "./byte_level.ts";
import { endOfText, joinBatch, type TokenBatch, type Tokenizer } from "./tokenizer.ts";

const eos = 256;

/** One token a byte of UTF-8 (ids 0..255) and 256 = <|endoftext|>. */
export class BytesTokenizer implements Tokenizer {
  readonly name = "bytes";
  readonly vocabSize = 257;
  readonly eos = eos;
  readonly hash = createHash("sha256").update("thalweg bytes 1").digest("hex");

  encode(text: string): Int32Array {
    return new Int32Array(Buffer.from(text, "utf8"));
  }

  async encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch> {
    return joinBatch(texts.map(repairUtf8), this.vocabSize);
  }

  decode(ids: Iterable<number>): string {
    let text = "";
    let bytes: number[] = [];
    for (const id of ids) {
      if (id >= 0 && id < 256) {
        bytes.push(id);
        continue;
      }
      text += Buffer.from(bytes).toString("utf8");
      bytes = [];
      // Ids above are the padding of a model's vocabulary: an untrained model may sample them.
      text += id === eos ? endOfText : "\ufffd";
    }
    return text + Buffer.from(bytes).toString("utf8");
  }

  files(): Record<string, string> {
    const tokens = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
    return huggingFaceFiles({ tokens, merges: new Uint32Array(), wholeWords: false, eos });
  }
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The bytes themselves when they are UTF-8; otherwise U+FFFD stands for each ill-formed part. */
function repairUtf8(bytes: Uint8Array): Uint8Array {
  return isUtf8(bytes) ? bytes : Buffer.from(decoder.decode(bytes), "utf8");
}
