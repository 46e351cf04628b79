import { decayShapes } from "../../config/schedule_parts.ts";
import { defineCommand, jsonOption } from "../command.ts";

export const merge = defineCommand({
  command: "merge <checkpoints..>",
  describe: "Average the weights of saved checkpoints: uniform, weighted, or so as to emulate a decay",
  positionals: {
    checkpoints: {
      type: "string",
      array: true,
      demandOption: true,
      describe: "Checkpoint folders, or a run directory.",
    },
  },
  options: {
    out: { type: "string", demandOption: true, describe: "Folder to write." },
    last: { type: "number", describe: "Of a run directory: the newest so many checkpoints." },
    window: { type: "string", describe: "Of a run directory: checkpoints of steps FROM:TO." },
    weights: { type: "string", describe: "One weight for each, oldest first: 1,2,3. Scaled to sum to 1." },
    ema: { type: "number", describe: "Exponential average over the checkpoints with this decay." },
    like: { choices: decayShapes, describe: "Weigh updates as a decay of this shape would have (WSM)." },
    floor: { type: "number", default: 0.1, describe: "Floor of the emulated decay, as a ratio of the peak." },
    evaluate: {
      type: "boolean",
      default: false,
      describe: "Also print the validation losses of the newest and of the merged.",
    },
    json: jsonOption,
  },
  examples: [
    ["$0 merge runs/trunk --last 5 --out runs/merged --evaluate", "a uniform window (LAWA, SWA)"],
    ["$0 merge runs/trunk --window 4000:5000 --like 1-sqrt --floor 0 --out runs/wsm", "as if it had decayed there"],
  ],
  run: async (args) => {
    const { runMergeCommand } = await import("../merge_command.ts");
    await runMergeCommand(args);
  },
});
