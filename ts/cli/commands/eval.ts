import { deviceChoices } from "../../base/device.ts";
import { defineCommand, jsonOption } from "../command.ts";
import { print, printJson } from "../output.ts";

export const evaluate = defineCommand({
  command: "eval <checkpoint>",
  describe: "Validation loss of a checkpoint, a run (its newest checkpoint) or a transformers folder",
  positionals: { checkpoint: { type: "string", demandOption: true, describe: "Checkpoint, run or model folder." } },
  options: {
    average: { type: "boolean", default: false, describe: "Of the weights' moving average (optimizer.ema)." },
    data: { type: "string", describe: "Prepared dataset. Default: the run's validation data." },
    sequences: { type: "number", describe: "Sequences to evaluate on. Default: as the run did." },
    all: { type: "boolean", default: false, describe: "Evaluate on the whole dataset." },
    length: { type: "number", describe: "Tokens in a sequence." },
    precision: { choices: ["fp32", "bf16"] as const, describe: "Compute precision. Default: the run's." },
    device: { choices: deviceChoices, default: "auto" as const, describe: "Where to run." },
    json: jsonOption,
  },
  run: async (args) => {
    const { evaluateCheckpoint } = await import("../../train/evaluate_checkpoint.ts");
    const { checkpoint, average, data, length, precision, device } = args;
    const sequences = args.all ? "all" : args.sequences;
    const result = await evaluateCheckpoint({ path: checkpoint, average, data, sequences, length, precision, device });
    if (args.json) return printJson(result);
    const { formatEntropyClasses } = await import("../../report/entropy_table.ts");
    const split = formatEntropyClasses(result.sets);
    const bits = result.bitsPerByte === null ? "" : `, ${result.bitsPerByte.toFixed(4)} bits per byte`;
    print(
      `loss ${result.loss.toFixed(4)} nats per token, perplexity ${result.perplexity.toFixed(2)}${bits} (${result.tokens} tokens of ${result.data}, ${result.precision})`,
    );
    if (split) print(`\n${split}`);
  },
});
