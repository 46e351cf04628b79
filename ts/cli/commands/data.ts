import { ExitCode, ThalwegError } from "../../base/errors.ts";
import { defineCommand, defineGroup, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

const prepareCommand = defineCommand({
  command: "prepare [inputs..]",
  describe: "Turn text into token shards: .txt, .jsonl (.gz, .zst), .parquet, folders, globs, packages:DIR, or -",
  positionals: {
    inputs: {
      type: "string",
      array: true,
      describe: "Files, folders, globs, - for standard input.",
    },
  },
  options: {
    config: { type: "string", describe: "YAML with inputs, output, tokenizer: configs/data/pile.yaml." },
    out: { type: "string", describe: "Folder to make; gets train/ and validation/." },
    tokenizer: { type: "string", describe: "bytes, gpt2, gpt2:RANKS_FILE, or a tokenizer.json (or its folder)." },
    field: {
      type: "string",
      describe: "Field of lines or column that holds the text, a.b for inner ones. Default: text.",
    },
    "text-split": {
      choices: ["file", "blank-line", "endoftext"] as const,
      describe: "What ends a document in a text file. Default: file.",
    },
    stdin: { choices: ["jsonl", "text"] as const, describe: "What standard input holds. Default: jsonl." },
    validation: { type: "number", describe: "Share kept for validation. Default: 0.05." },
    "validation-input": { type: "string", array: true, describe: "Text for validation of its own." },
    "split-by": {
      choices: ["document", "group", "tail"] as const,
      describe: "What the split keeps whole; tail takes the end of every document.",
    },
    seed: { type: "number", describe: "Seed of the split." },
    "max-documents": { type: "number", describe: "Stop after so many documents." },
    "max-bytes": { type: "number", describe: "Stop after so many bytes of text." },
    "max-record-bytes": { type: "number", describe: "Larger lines or files count as unreadable. Default: 32 MiB." },
    "max-bad-share": { type: "number", describe: "Share of unreadable lines that is fatal. Default: 0.01." },
    "keep-duplicates": { type: "boolean", default: false, describe: "Keep documents whose text was met before." },
    "shard-tokens": { type: "number", describe: "Tokens of a shard, about. Default: 2^27." },
    restart: { type: "boolean", default: false, describe: "Drop what an interrupted run left." },
    overwrite: { type: "boolean", default: false, describe: "Replace an existing output." },
    json: jsonOption,
  },
  examples: [["$0 data prepare books/ --out data/books --tokenizer gpt2", "then train with data.train=data/books"]],
  run: async (args) => {
    const [{ prepare }, { prepareProgress, formatPrepared }, { StopSignals }] = await Promise.all([
      import("../../data/prepare.ts"),
      import("../../report/prepared.ts"),
      import("../../train/signals.ts"),
    ]);
    const file =
      args.config === undefined
        ? null
        : (await import("../../config/prepare_config.ts")).readPrepareConfig(args.config);
    const inputs = args.inputs?.length ? args.inputs : (file?.inputs ?? []);
    const output = args.out ?? file?.output;
    if (output === undefined)
      throw new ThalwegError("BAD_OPTION", "no output: name a folder with --out, or a --config");
    using signals = new StopSignals({ onFirst: (name) => note(`${name}: committing, then stopping`) }).install();
    const summary = await prepare({
      inputs,
      output,
      tokenizer: args.tokenizer ?? file?.tokenizer ?? "bytes",
      overwrite: args.overwrite,
      ...given("field", args.field ?? file?.field),
      ...given("textSplit", args["text-split"]),
      ...given("validationFraction", args.validation),
      ...given("validationInputs", args["validation-input"] ?? file?.validationInputs),
      ...given("splitBy", args["split-by"]),
      ...given("seed", args.seed),
      ...given("maxDocuments", args["max-documents"]),
      ...given("maxBytes", args["max-bytes"]),
      ...given("standardInputFormat", args.stdin),
      ...given("maxRecordBytes", args["max-record-bytes"]),
      ...given("maxBadShare", args["max-bad-share"]),
      ...given("shardTokens", args["shard-tokens"]),
      deduplicate: !args["keep-duplicates"] && (file?.deduplicate ?? true),
      restart: args.restart,
      signal: signals.signal,
      onProgress: prepareProgress(process.stderr),
    }).catch((error: unknown) => {
      if (signals.received === null) throw error;
      note("stopped: run the same command again to go on");
      process.exitCode = ExitCode.savedRunAgain;
    });
    if (!summary) return;
    if (args.json) printJson(summary);
    else print(formatPrepared(summary));
  },
});

const inspectCommand = defineCommand({
  command: "inspect <dataset>",
  describe: "What a prepared dataset holds; --verify checks every byte",
  positionals: {
    dataset: { type: "string", demandOption: true, describe: "Folder that `data prepare` made, or one of its parts." },
  },
  options: {
    verify: { type: "boolean", default: false, describe: "Check all checksums." },
    samples: { type: "number", default: 3, describe: "Documents to show." },
    json: jsonOption,
  },
  run: async (args) => {
    const [{ inspectDataset }, { datasetsIn }, { formatTable }] = await Promise.all([
      import("../../data/inspect.ts"),
      import("../../data/dataset.ts"),
      import("../../report/table.ts"),
    ]);
    const { verify, samples } = args;
    const folders = datasetsIn(args.dataset);
    for (const folder of folders.length > 0 ? folders : [args.dataset]) {
      const found = await inspectDataset(folder, { verify, samples });
      if (args.json) printJson(found);
      else {
        print(formatTable([found.folder, ""], found.rows));
        for (const s of found.samples) print(`\n--- document ${s.document}, ${s.tokens} tokens\n${s.text}`);
        if (found.verified) note("every byte is as it was written");
      }
      if (found.problem) {
        note(`error: ${found.problem}`);
        process.exitCode = 5;
      }
    }
  },
});

const synthesizeCommand = defineCommand({
  command: "synthesize <language>",
  describe: "Make data of known statistics, each token with its true entropy beside it",
  positionals: {
    language: {
      choices: ["bigram", "facts", "hierarchical"] as const,
      demandOption: true,
      describe:
        "bigram: certain and uncertain symbols; facts: facts among choices; hierarchical: chains on two levels.",
    },
  },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to make; gets train/ and validation/." },
    tokens: { type: "number", default: 1_000_000, describe: "Tokens of training data, about." },
    "validation-tokens": { type: "number", describe: "Default: a twentieth of that." },
    seed: { type: "number", default: 0, describe: "Seed of the language and its documents." },
    vocab: { type: "number", describe: "Symbols of bigram (64) and hierarchical (24)." },
    certain: { type: "number", describe: "Share of certain symbols of bigram (0.5)." },
    people: { type: "number", describe: "People of facts (256)." },
    topics: { type: "number", describe: "Topics of hierarchical (8)." },
    overwrite: { type: "boolean", default: false, describe: "Replace an existing output." },
    json: jsonOption,
  },
  examples: [["$0 data synthesize bigram --out data/bigram", "then train with data.train=data/bigram"]],
  run: async (args) => {
    const { syntheticSource, synthesize } = await import("../../data/synthetic/index.ts");
    const source = syntheticSource(args.language, {
      seed: args.seed,
      ...given("vocab", args.vocab),
      ...given("certain", args.certain),
      ...given("people", args.people),
      ...given("topics", args.topics),
    });
    const { tokens, overwrite, out: output } = args;
    const sizes = { tokens, ...given("validationTokens", args["validation-tokens"]) };
    const made = await synthesize({ source, output, overwrite, ...sizes });
    if (args.json) return printJson({ ...made, entropyRate: source.entropyRate });
    const rate = source.entropyRate === null ? "" : `, entropy rate ${source.entropyRate.toFixed(6)}`;
    print(
      `${args.out}: ${made.train.tokens} and ${made.validation.tokens} tokens; mean entropy ${made.meanEntropy.toFixed(6)} nats per token with ends${rate}`,
    );
  },
});

const mergeCommand = defineCommand({
  command: "merge <datasets..>",
  describe: "One dataset of the documents of several, in order",
  positionals: {
    datasets: { type: "string", array: true, demandOption: true, describe: "Folders with dataset.json." },
  },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to make." },
    "shard-tokens": { type: "number", describe: "Tokens of a shard, about. Default: 2^27." },
    overwrite: { type: "boolean", default: false, describe: "Replace an existing output." },
  },
  run: async (args) => {
    const { mergeDatasets } = await import("../../data/reshape.ts");
    const options = { overwrite: args.overwrite, ...given("shardTokens", args["shard-tokens"]) };
    const { documents, tokens, shards } = await mergeDatasets(args.datasets, args.out, options);
    print(`${args.out}: ${documents} documents, ${tokens} tokens in ${shards.length} shards`);
  },
});

const splitCommand = defineCommand({
  command: "split <dataset>",
  describe: "A dataset in parts of about equal size, each of whole documents",
  positionals: { dataset: { type: "string", demandOption: true, describe: "Folder with a dataset.json." } },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to make; gets part-00/, part-01/, ..." },
    parts: { type: "number", demandOption: true, describe: "How many." },
    "shard-tokens": { type: "number", describe: "Tokens of a shard, about. Default: 2^27." },
    overwrite: { type: "boolean", default: false, describe: "Replace an existing output." },
  },
  run: async (args) => {
    const { splitDataset } = await import("../../data/reshape.ts");
    const options = { overwrite: args.overwrite, ...given("shardTokens", args["shard-tokens"]) };
    const made = await splitDataset(args.dataset, args.out, args.parts, options);
    print(
      made.map((part) => `${args.out}/${part.name}: ${part.documents} documents, ${part.tokens} tokens`).join("\n"),
    );
  },
});

const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };

export const data = defineGroup("data", "Prepare and inspect token data", [
  prepareCommand,
  inspectCommand,
  synthesizeCommand,
  mergeCommand,
  splitCommand,
]);
