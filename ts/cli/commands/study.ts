import { defineCommand, defineGroup, jsonOption } from "../command.ts";

const filePositionals = {
  file: { type: "string", demandOption: true, describe: "Study file (YAML)." },
  overrides: { type: "string", array: true, default: [] as string[], describe: "Fields to replace: margin=0.01" },
} as const;

const folderPositional = {
  folder: { type: "string", demandOption: true, describe: "Folder that `study run` wrote." },
} as const;

const planOptions = {
  out: { type: "string", describe: "Folder of the study. Default: studies/<name>." },
  jobs: { type: "number", describe: "Segments trained at the same time. Default: as the study says." },
  threads: { type: "number", describe: "Threads of each. Default: the CPUs divided by jobs." },
  json: jsonOption,
} as const;

const plan = defineCommand({
  command: "plan <file> [overrides..]",
  describe: "The segments of a study, what they cost, and what sharing them saves",
  positionals: filePositionals,
  options: {
    ...planOptions,
    measure: { type: "boolean", default: true, describe: "Measure the speed for a moment where it is not known." },
    "tokens-per-second": { type: "number", describe: "Speed of one process, instead of measuring it." },
  },
  examples: [["$0 study plan configs/studies/wsd-vs-wsds-vs-cosine.yaml", "steps, tokens, FLOPs, hours, disk"]],
  run: async (args) => {
    const { runStudyPlan } = await import("../study_command.ts");
    process.exitCode = await runStudyPlan(args);
  },
});

const run = defineCommand({
  command: "run <file> [overrides..]",
  describe: "Train what a study lacks, then report; run it again to go on",
  positionals: filePositionals,
  options: {
    ...planOptions,
    "in-process": {
      type: "boolean",
      default: false,
      describe: "Train in this process, one segment at a time, instead of starting workers.",
    },
    executor: {
      choices: ["local", "slurm"] as const,
      default: "local" as const,
      describe: "Processes on this machine, or jobs of a Slurm cluster that shares this folder.",
    },
  },
  examples: [["$0 study run configs/studies/wsd-vs-wsds-vs-cosine.yaml", "killed anywhere, the same line goes on"]],
  run: async (args) => {
    const { runStudyRun } = await import("../study_command.ts");
    process.exitCode = await runStudyRun(args);
  },
});

const status = defineCommand({
  command: "status <folder>",
  describe: "How far a study is",
  positionals: folderPositional,
  options: { json: jsonOption },
  run: async (args) => {
    const { runStudyStatus } = await import("../study_command.ts");
    process.exitCode = await runStudyStatus(args);
  },
});

const report = defineCommand({
  command: "report <folder>",
  describe: "Write what a study found so far: report.html, results.csv, results.json, figures/",
  positionals: folderPositional,
  options: { json: jsonOption },
  run: async (args) => {
    const { runStudyReport } = await import("../study_command.ts");
    process.exitCode = await runStudyReport(args);
  },
});

/** What `study run` starts; also works alone, beside others, on the same folder. */
const workCommand = defineCommand({
  command: "work <folder>",
  describe: false,
  positionals: folderPositional,
  options: {
    threads: { type: "number", describe: "Threads of this process." },
    segment: { type: "string", describe: "Train this segment only." },
  },
  run: async (args) => {
    const { runStudyWork } = await import("../study_command.ts");
    process.exitCode = await runStudyWork(args);
  },
});

export const study = defineGroup("study", "Experiments that train each shared step once", [
  plan,
  run,
  status,
  report,
  workCommand,
]);
