import { defineCommand, jsonOption } from "../command.ts";

export const quickstart = defineCommand({
  command: "quickstart",
  describe: "Train a small LLaMA under WSD-S on the text of installed packages, with controls: a minute or two",
  options: {
    out: { type: "string", default: "runs/quickstart", describe: "Folder for data, runs and pictures." },
    config: { type: "string", describe: "Another run configuration than configs/quickstart.yaml." },
    input: { type: "string", array: true, describe: "Other text: files, folders, globs." },
    json: jsonOption,
  },
  run: async (args) => {
    const { runQuickstartCommand } = await import("../quickstart_command.ts");
    process.exitCode = await runQuickstartCommand(args);
  },
});
