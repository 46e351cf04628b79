import { defineCommand } from "../command.ts";

export const watch = defineCommand({
  command: "watch <folder>",
  describe: "Follow a study or a run in the terminal",
  positionals: { folder: { type: "string", demandOption: true, describe: "Folder of a study or a run." } },
  options: { seconds: { type: "number", default: 1, describe: "Seconds between two looks." } },
  run: async (args) => {
    const { runWatch } = await import("../watch_command.ts");
    process.exitCode = await runWatch(args);
  },
});
