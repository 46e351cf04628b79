import { defineCommand, jsonOption } from "../command.ts";

export const tune = defineCommand({
  command: "tune <file> [overrides..]",
  describe: "Find the peak learning rate of each schedule of a study, on seeds and text kept for that",
  positionals: {
    file: { type: "string", demandOption: true, describe: "Study file (YAML) with a tuning section." },
    overrides: { type: "string", array: true, default: [] as string[], describe: "Fields to replace." },
  },
  options: {
    out: { type: "string", describe: "Folder of the study. Default: studies/<name>." },
    jobs: { type: "number", describe: "Segments trained at the same time." },
    threads: { type: "number", describe: "Threads of each." },
    "in-process": {
      type: "boolean",
      default: false,
      describe: "Train in this process, one segment at a time, instead of starting workers.",
    },
    json: jsonOption,
  },
  examples: [["$0 tune configs/studies/wsd-vs-wsds-vs-cosine.yaml", "writes tuned.json; killed anywhere, it goes on"]],
  run: async (args) => {
    const { runTune } = await import("../study_command.ts");
    process.exitCode = await runTune(args);
  },
});
