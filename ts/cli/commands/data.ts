import { defineCommand, defineGroup, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

const prepareCommand = defineCommand({
  command: "prepare <inputs..>",
  describe: "Turn text into token shards: .txt, .jsonl, folders, globs, or packages:node_modules",
  positionals: {
    inputs: { type: "string", array: true, demandOption: true, describe: "Files, folders, globs." },
  },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to make; gets train/ and validation/." },
    tokenizer: { type: "string", default: "bytes", describe: "bytes, gpt2, or a file of GPT-2 ranks." },
    field: { type: "string", describe: "Field of .jsonl lines that holds the text. Default: text." },
    "text-split": {
      choices: ["file", "blank-line", "endoftext"] as const,
      describe: "What ends a document in a text file. Default: file.",
    },
    validation: { type: "number", describe: "Share kept for validation. Default: 0.05." },
    "validation-input": { type: "string", array: true, describe: "Text for validation of its own." },
    "split-by": {
      choices: ["document", "group", "tail"] as const,
      describe: "What the split keeps whole; tail takes the end of every document.",
    },
    seed: { type: "number", describe: "Seed of the split." },
    "max-documents": { type: "number", describe: "Stop after so many documents." },
    "max-bytes": { type: "number", describe: "Stop after so many bytes of text." },
    overwrite: { type: "boolean", default: false, describe: "Replace an existing output." },
    json: jsonOption,
  },
  examples: [["$0 data prepare books/ --out data/books --tokenizer gpt2", "then train with data.train=data/books"]],
  run: async (args) => {
    const [{ prepare }, { prepareProgress, formatPrepared }] = await Promise.all([
      import("../../data/prepare.ts"),
      import("../../report/prepared.ts"),
    ]);
    const summary = await prepare({
      inputs: args.inputs,
      output: args.out,
      tokenizer: args.tokenizer,
      overwrite: args.overwrite,
      ...given("field", args.field),
      ...given("textSplit", args["text-split"]),
      ...given("validationFraction", args.validation),
      ...given("validationInputs", args["validation-input"]),
      ...given("splitBy", args["split-by"]),
      ...given("seed", args.seed),
      ...given("maxDocuments", args["max-documents"]),
      ...given("maxBytes", args["max-bytes"]),
      onProgress: prepareProgress(process.stderr),
    });
    if (args.json) printJson(summary);
    else print(formatPrepared(summary));
  },
});

const inspectCommand = defineCommand({
  command: "inspect <dataset>",
  describe: "What a prepared dataset holds; --verify checks every byte",
  positionals: { dataset: { type: "string", demandOption: true, describe: "Folder with a dataset.json." } },
  options: {
    verify: { type: "boolean", default: false, describe: "Check all checksums." },
    samples: { type: "number", default: 3, describe: "Documents to show." },
    json: jsonOption,
  },
  run: async (args) => {
    const [{ inspectDataset }, { formatTable }] = await Promise.all([
      import("../../data/inspect.ts"),
      import("../../report/table.ts"),
    ]);
    const { verify, samples } = args;
    const found = await inspectDataset(args.dataset, { verify, samples });
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
  },
});

const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };

export const data = defineGroup("data", "Prepare and inspect token data", [prepareCommand, inspectCommand]);
