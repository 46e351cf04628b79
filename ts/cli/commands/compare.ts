import { defineCommand, jsonOption } from "../command.ts";
import { note, print, printJson } from "../output.ts";

export const compare = defineCommand({
  command: "compare <runs..>",
  describe: "Runs side by side: final and budget losses as a table, curves as a picture",
  positionals: { runs: { type: "string", array: true, demandOption: true, describe: "Run directories." } },
  options: {
    svg: { type: "string", describe: "Write loss and learning rate of all runs to this SVG file." },
    csv: { type: "string", describe: "Write every loss of every run to this CSV file." },
    json: jsonOption,
  },
  run: async (args) => {
    const [{ loadRun }, { comparisonReport }, { writeFileAtomic }] = await Promise.all([
      import("../../train/compare.ts"),
      import("../../report/compare.ts"),
      import("../../base/files.ts"),
    ]);
    const report = comparisonReport(await Promise.all(args.runs.map(loadRun)));
    if (args.svg) await writeFileAtomic(args.svg, report.svg);
    if (args.csv) await writeFileAtomic(args.csv, report.csv);
    for (const file of [args.svg, args.csv]) if (file) note(`wrote ${file}`);
    if (args.json) printJson(report.summaries);
    else print(report.text);
  },
});
