import { configPositionals, defineCommand, defineGroup, jsonOption } from "../command.ts";

const show = defineCommand({
  command: "show <configs..>",
  describe: "Phases and curve of a schedule; several configs are compared in one table and picture",
  positionals: {
    configs: {
      type: "string",
      array: true,
      demandOption: true,
      describe: "Run configurations (YAML), and fields to replace in all of them: schedule.lr.peak=1e-3",
    },
  },
  options: {
    vs: {
      type: "string",
      array: true,
      default: [] as string[],
      describe: "Compare with the first config under these replacements; may be repeated.",
    },
    svg: { type: "string", describe: "Also write the curves to this SVG file." },
    csv: { type: "string", describe: "Also write the value of every step to this file." },
    json: jsonOption,
  },
  examples: [
    ["$0 schedule show configs/quickstart.yaml", "phases, budgets and the curve in the terminal"],
    ["$0 schedule show configs/quickstart.yaml --vs schedule.lr.cosine.steps=1290", "next to a cosine as long"],
  ],
  run: async (args) => {
    const { runShow } = await import("../schedule_commands.ts");
    await runShow(args);
  },
});

const plan = defineCommand({
  command: "plan <config> [overrides..]",
  describe: "Budgets of a WSD-S config as WSD with branches, WSD-S, cyclic cosine and cosine: checkpoints and compute",
  positionals: configPositionals,
  options: {
    rate: { type: "number", describe: "Tokens per second, as `thalweg bench train` measures them, for hours." },
    json: jsonOption,
  },
  examples: [["$0 schedule plan configs/quickstart.yaml --rate 98000", "what each way to serve the budgets costs"]],
  run: async (args) => {
    const { runPlan } = await import("../schedule_commands.ts");
    await runPlan(args);
  },
});

const exported = defineCommand({
  command: "export <config> [overrides..]",
  describe: "A schedule as PyTorch LambdaLR, optax code, JSON or CSV",
  positionals: configPositionals,
  options: {
    format: {
      choices: ["torch", "optax", "json", "csv"] as const,
      default: "torch" as const,
      describe: "What to write.",
    },
    out: { type: "string", describe: "File to write. Default: standard output." },
  },
  examples: [
    ["$0 schedule export configs/quickstart.yaml --format optax --out lr.py", "a schedule function for optax"],
  ],
  run: async (args) => {
    const { runExport } = await import("../schedule_commands.ts");
    await runExport(args);
  },
});

export const schedule = defineGroup("schedule", "Look at, plan and export learning-rate schedules", [
  show,
  plan,
  exported,
]);
