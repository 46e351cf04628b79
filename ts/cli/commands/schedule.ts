import { defineCommand, defineGroup, jsonOption } from "../command.ts";

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
    const { runShow } = await import("../schedule_show.ts");
    await runShow(args);
  },
});

export const schedule = defineGroup("schedule", "Look at learning-rate schedules", [show]);
