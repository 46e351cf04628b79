import type { LoaderBench } from "../../data/bench/loader.ts";
import type { PrepareBench } from "../../data/bench/prepare.ts";
import type { TokenizeBench } from "../../data/bench/tokenize.ts";
import { defineCommand, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

const parts = ["tokenizer", "prepare", "loader"] as const;

/** Sequences and tokens of each: a step of a small model here, and of larger ones. */
const loaderShapes = [
  [8, 256],
  [16, 1024],
  [32, 2048],
] as const;

export const benchData = defineCommand({
  command: "data [inputs..]",
  describe: "Speed of the tokenizer beside others, of a whole data prepare with its peak memory, and of the loader",
  positionals: {
    inputs: {
      type: "string",
      array: true,
      default: ["packages:node_modules"],
      describe: "Text to tokenize and prepare: files, folders, globs. Best some megabytes of the kind you train on.",
    },
  },
  options: {
    part: { choices: parts, array: true, default: [...parts], describe: "What to measure." },
    tokenizer: {
      type: "string",
      default: "gpt2",
      describe: "gpt2, gpt2:RANKS_FILE or a folder with a tokenizer.json.",
    },
    threads: { type: "number", default: 0, describe: "CPU threads; 0 for every CPU allowed." },
    rounds: { type: "number", default: 5, describe: "Times each one is measured." },
    megabytes: { type: "number", default: 8, describe: "About how much text is tokenized." },
    "prepare-megabytes": { type: "number", default: 256, describe: "How much raw .jsonl is prepared." },
    dataset: { type: "string", describe: "Prepared dataset for the loader. Default: 80 million random tokens." },
    python: { type: "string", describe: "A Python with Hugging Face tokenizers, to compare with." },
    json: jsonOption,
  },
  examples: [["$0 bench data texts/*.jsonl --python python3", "all three parts, beside Hugging Face tokenizers"]],
  run: async (args) => {
    const { inputs, tokenizer, threads, rounds, python, dataset } = args;
    const wants = (part: (typeof parts)[number]) => args.part.includes(part);
    const onRound = (part: string) => (round: number) =>
      note(round === 0 ? `${part}: warm` : `${part}: round ${round} of ${rounds}`);
    const all: { tokenizer?: TokenizeBench; prepare?: PrepareBench; loader?: LoaderBench } = {};
    const show = args.json ? null : (await import("../../report/data_bench.ts")).formatDataBench;
    if (wants("tokenizer")) {
      const { benchTokenize } = await import("../../data/bench/tokenize.ts");
      const maxBytes = args.megabytes * 1e6;
      const asked = { inputs, tokenizer, threads, rounds, python, maxBytes, onRound: onRound("tokenizer") };
      all.tokenizer = await benchTokenize(asked);
      if (show) print(show({ tokenizer: all.tokenizer }));
    }
    if (wants("prepare")) {
      const { benchPrepare } = await import("../../data/bench/prepare.ts");
      const megabytes = args["prepare-megabytes"];
      const asked = { inputs, tokenizer, threads, rounds, megabytes, onRound: onRound("prepare") };
      all.prepare = await benchPrepare(asked);
      if (show) print(show({ prepare: all.prepare }));
    }
    if (wants("loader")) {
      const { benchLoader } = await import("../../data/bench/loader.ts");
      const sizes = { megatokens: 80, roundMegatokens: 20, shapes: loaderShapes };
      all.loader = await benchLoader({ dataset, ...sizes, rounds, onRound: onRound("loader") });
      if (show) print(show({ loader: all.loader }));
    }
    if (args.json) printJson(all);
  },
});
