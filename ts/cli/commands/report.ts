import { defineCommand, jsonOption } from "../command.ts";

export const report = defineCommand({
  command: "report <folders..>",
  describe: "One self-contained HTML page of a study, or of one or several runs",
  positionals: { folders: { type: "string", array: true, demandOption: true, describe: "A study, or runs." } },
  options: {
    out: { type: "string", describe: "The page of runs. Default: report.html in the first one's folder." },
    json: jsonOption,
  },
  run: async (args) => {
    const { runReportCommand } = await import("../report_command.ts");
    process.exitCode = await runReportCommand(args);
  },
});
