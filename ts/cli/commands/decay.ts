import { decayShapes } from "../../config/schedule_parts.ts";
import { defineCommand } from "../command.ts";

export const decay = defineCommand({
  command: "decay <run>",
  describe: "Branch a decay off a running or finished run; with --live, order it of the running process itself",
  positionals: { run: { type: "string", demandOption: true, describe: "Run directory." } },
  options: {
    from: { type: "string", describe: "Checkpoint to branch off: its folder, name or step. Default: the newest." },
    steps: { type: "number", describe: "Length in steps. Default: a tenth of the steps made." },
    tokens: { type: "number", describe: "Length in tokens." },
    hours: { type: "number", describe: "Length in hours at the run's measured speed." },
    until: { type: "string", describe: "Time by which it must be over, such as 2026-12-01T08:00 or with a zone." },
    shape: { choices: decayShapes, default: "inverse" as const, describe: "How it falls." },
    floor: { type: "number", default: 0.1, describe: "Where it ends, as a ratio of the peak." },
    power: { type: "number", describe: "Exponent of a polynomial or a cosine." },
    "half-life": { type: "string", describe: "Of a half_life decay: 500, or 10M tokens." },
    next: {
      choices: ["stop", "go_on"] as const,
      default: "stop" as const,
      describe: "After it: stop, or go on with the schedule it interrupted.",
    },
    out: { type: "string", describe: "Run directory of the branch. Default: NAME-decay-STEP beside the run." },
    live: { type: "boolean", default: false, describe: "Order it of the process that trains this run now." },
    "dry-run": { type: "boolean", default: false, describe: "Say what it would be; train nothing." },
    quiet: { type: "boolean", default: false, describe: "No progress on standard error." },
    json: { type: "boolean", default: false, describe: "One JSON object a line on standard output." },
  },
  examples: [
    ["$0 decay runs/trunk --steps 500", "a decayed checkpoint off the newest one; the trunk goes on"],
    ["$0 decay runs/trunk --from 5000 --hours 2 --shape 1-sqrt", "from a named checkpoint, as long as two hours"],
    ["$0 decay runs/trunk --live --until 2026-12-01T08:00", "the running process itself decays, to be over by then"],
  ],
  run: async (args) => {
    const { runDecayCommand } = await import("../decay_command.ts");
    process.exitCode = await runDecayCommand(args);
  },
});
