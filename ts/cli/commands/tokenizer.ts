import { defineCommand, defineGroup, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

const trainCommand = defineCommand({
  command: "train <inputs..>",
  describe: "Learn a byte-level BPE vocabulary from text; writes a tokenizer.json that Hugging Face loads too",
  positionals: {
    inputs: { type: "string", array: true, demandOption: true, describe: "Files, folders, globs." },
  },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to make." },
    vocab: { type: "number", default: 32_000, describe: "Ids in all, 256 bytes and <|endoftext|> among them." },
    "min-frequency": { type: "number", default: 2, describe: "Merge no pair that occurs less often." },
    field: { type: "string", default: "text", describe: "Field of .jsonl lines that holds the text." },
    "max-bytes": { type: "number", default: Number.POSITIVE_INFINITY, describe: "Stop after so many bytes of text." },
    threads: { type: "number", default: 0, describe: "CPU threads; 0 for every CPU allowed." },
    json: jsonOption,
  },
  examples: [["$0 tokenizer train books/ --vocab 8192 --out tok", "then data prepare --tokenizer tok"]],
  run: async (args) => {
    const { trainTokenizerFromFiles } = await import("../../data/tokenizers/train_files.ts");
    const { inputs, out, vocab, field, threads } = args;
    const result = await trainTokenizerFromFiles({
      ...{ inputs, out, vocabSize: vocab, field, threads },
      minFrequency: args["min-frequency"],
      maxBytes: args["max-bytes"],
      onProgress: progress(),
    });
    if (args.json) return printJson({ out, ...result });
    print(`${out}: ${result.vocabSize} ids from ${(result.bytes / 1e6).toFixed(1)} MB of text`);
  },
});

/** Megabytes counted, then tokens learned with the time left; a line that is rewritten on a terminal, now and then in a log. */
function progress() {
  const tty = process.stderr.isTTY === true;
  const every = tty ? 200 : 10_000;
  let [last, learningSince] = [performance.now(), 0];
  return ({ bytes, learned, wanted }: { bytes: number; learned: number; wanted: number }) => {
    const now = performance.now();
    if (learned > 0 && learningSince === 0) learningSince = now;
    if (now - last < every) return;
    last = now;
    const left = learned > 0 ? ((now - learningSince) / 1000 / learned) * (wanted - learned) : 0;
    const text =
      learned === 0
        ? `counting words: ${(bytes / 1e6).toFixed(0)} MB`
        : `learned ${learned} of ${wanted} tokens, at most ${left.toFixed(0)} s left`;
    if (tty) process.stderr.write(`\r\x1b[K${text}`);
    else note(text);
  };
}

export const tokenizer = defineGroup("tokenizer", "Train tokenizers", [trainCommand]);
