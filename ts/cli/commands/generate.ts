import { defineCommand, jsonOption } from "../command.ts";
import { printJson } from "../output.ts";

export const generate = defineCommand({
  command: "generate <checkpoint>",
  describe: "Continue a text with a checkpoint, a run (its newest checkpoint) or a transformers folder",
  positionals: { checkpoint: { type: "string", demandOption: true, describe: "Checkpoint, run or model folder." } },
  options: {
    prompt: { type: "string", default: "", describe: "Text to continue; empty starts a new document." },
    tokens: { type: "number", default: 128, describe: "Most tokens to add." },
    temperature: { type: "number", describe: "0 takes the likeliest token." },
    "top-k": { type: "number", describe: "Sample among the k likeliest tokens only; 0 for all." },
    "top-p": { type: "number", describe: "Sample among the likeliest tokens that make up this probability." },
    average: { type: "boolean", default: false, describe: "With the weights' moving average (optimizer.ema)." },
    seed: { type: "number", default: 0, describe: "Same seed, same text." },
    precision: { choices: ["fp32", "bf16"] as const, describe: "Compute precision. Default: the run's." },
    json: jsonOption,
  },
  run: async (args) => {
    const { generateText } = await import("../../train/generate.ts");
    const { prompt, average, seed, temperature, precision } = args;
    if (!args.json) process.stdout.write(prompt);
    const result = await generateText({
      path: args.checkpoint,
      prompt,
      average,
      seed,
      precision,
      maxTokens: args.tokens,
      ...(temperature === undefined ? {} : { temperature }),
      ...(args["top-k"] === undefined ? {} : { topK: args["top-k"] }),
      ...(args["top-p"] === undefined ? {} : { topP: args["top-p"] }),
      ...(args.json ? {} : { onText: (piece: string) => void process.stdout.write(piece) }),
    });
    if (args.json) printJson({ prompt, ...result });
    else process.stdout.write("\n");
  },
});
