import { configPositionals, defineCommand, defineGroup, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

const show = defineCommand({
  command: "show <config> [overrides..]",
  describe: "Print the phases of a schedule and draw its curve",
  positionals: configPositionals,
  options: {
    svg: { type: "string", describe: "Also write the curve to this SVG file." },
    csv: { type: "string", describe: "Also write step,value rows to this file." },
    json: jsonOption,
  },
  examples: [["$0 schedule show configs/quickstart.yaml", "phases, budgets and the curve in the terminal"]],
  run: async (args) => {
    const [{ loadRunConfig }, { planRun }, { showSchedule }, { writeFileAtomic }] = await Promise.all([
      import("../../config/load.ts"),
      import("../../schedule/index.ts"),
      import("../../report/schedule_report.ts"),
      import("../../base/files.ts"),
    ]);
    const loaded = await loadRunConfig(args.config, args.overrides);
    const { name, batch } = loaded.config;
    const { schedule, steps } = planRun(loaded);
    const shown = showSchedule(schedule, { name, steps, tokensPerStep: batch.tokens });
    if (args.svg) await writeFileAtomic(args.svg, shown.svg);
    if (args.csv) await writeFileAtomic(args.csv, shown.csv);
    for (const file of [args.svg, args.csv]) if (file) note(`wrote ${file}`);
    if (args.json) printJson(shown.json);
    else print(shown.text);
  },
});

export const schedule = defineGroup("schedule", "Look at learning-rate schedules", [show]);
