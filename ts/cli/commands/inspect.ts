import { configPositionals, defineCommand, defineGroup, jsonOption } from "../command.ts";
import { comparePrograms } from "../compare_programs.ts";
import { print, printJson } from "../output.ts";

const run = defineCommand({
  command: "run <directory>",
  describe: "What a run is, how far it is, and what came out",
  positionals: { directory: { type: "string", demandOption: true, describe: "Run directory." } },
  options: { json: jsonOption },
  run: async (args) => {
    const { inspectRun } = await import("../../report/inspect.ts");
    const found = await inspectRun(args.directory);
    if (args.json) printJson(found.json);
    else print(found.text);
  },
});

const checkpoint = defineCommand({
  command: "checkpoint <directory>",
  describe: "What a checkpoint holds; every file is checked against its checksum",
  positionals: { directory: { type: "string", demandOption: true, describe: "Checkpoint folder." } },
  options: { json: jsonOption },
  run: async (args) => {
    const { inspectCheckpoint } = await import("../../report/inspect.ts");
    const found = await inspectCheckpoint(args.directory);
    if (args.json) printJson(found.json);
    else print(found.text);
  },
});

const program = defineCommand({
  command: "program <config> [overrides..]",
  describe: "The kernel calls of a training step, one a line, with addresses and costs",
  positionals: configPositionals,
  options: {
    kind: { choices: ["accumulate", "update", "evaluate", "decode"] as const, default: "accumulate" as const },
    compare: {
      type: "string",
      describe: "Two devices, e.g. cpu,cuda: run each command of a step on both and show where they differ.",
    },
    json: jsonOption,
  },
  run: async (args) => {
    const [{ loadRunConfig }, { planFromConfig }, { formatProgram }] = await Promise.all([
      import("../../config/load.ts"),
      import("../../train/setup.ts"),
      import("../../graph/program.ts"),
    ]);
    const { config } = await loadRunConfig(args.config, args.overrides);
    if (args.compare !== undefined) return comparePrograms(config, args.compare, args.json);
    const found = (await planFromConfig(config)).built.programs[args.kind];
    if (!found) return print(`this run has no ${args.kind} program`);
    if (args.json) printJson(found);
    else print(formatProgram(found));
  },
});

export const inspect = defineGroup("inspect", "Look inside runs, checkpoints and programs", [run, checkpoint, program]);
