import { configPositionals, defineCommand } from "../command.ts";

export const train = defineCommand({
  command: "train <config> [overrides..]",
  describe: "Train a model",
  positionals: configPositionals,
  options: {
    out: { type: "string", describe: "Run directory. Default: runs/<name>." },
    resume: {
      type: "string",
      describe: "Go on from the newest checkpoint of the run directory (auto), or from this one.",
      coerce: (v: string | undefined) => (v === "" ? "auto" : v),
    },
    "on-drift": {
      choices: ["refuse", "keep", "replace", "extend"] as const,
      default: "refuse" as const,
      describe:
        "When the schedule or data differ from the checkpoint's: refuse, keep the old, replace from here on, or extend an unchanged past.",
    },
    "init-from": { type: "string", describe: "Start from the weights of this checkpoint; optimizer and step are new." },
    "fork-from": { type: "string", describe: "Continue this checkpoint under another schedule in a run of its own." },
    "dry-run": { type: "boolean", default: false, describe: "Print what the run is and costs; touch no device." },
    quiet: { type: "boolean", default: false, describe: "No progress on standard error." },
    json: { type: "boolean", default: false, describe: "One JSON object a line on standard output." },
  },
  examples: [
    ["$0 train configs/quickstart.yaml --dry-run", "parameters, memory, FLOPs, steps, checkpoints to come"],
    ["$0 train configs/quickstart.yaml schedule.lr.peak=2e-3", "one field replaced"],
    ["$0 train configs/quickstart.yaml --resume auto", "go on after an interruption (exit 75)"],
  ],
  run: async (args) => {
    const { runTrainCommand } = await import("../train_command.ts");
    process.exitCode = await runTrainCommand(args);
  },
});
