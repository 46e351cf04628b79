import { defineCommand, jsonOption } from "../command.ts";

export const quickstart = defineCommand({
  command: "quickstart",
  describe:
    "Train small LLaMAs under four schedules on the text of installed packages, and report: about three minutes",
  options: {
    out: { type: "string", default: "runs/quickstart", describe: "Folder for data, runs and pictures." },
    config: { type: "string", describe: "Another base configuration than configs/quickstart.yaml." },
    input: { type: "string", array: true, describe: "Other text: files, folders, globs." },
    json: jsonOption,
  },
  run: async (args) => {
    const { runQuickstartCommand } = await import("../quickstart_command.ts");
    process.exitCode = await runQuickstartCommand(args);
  },
});
