import { deviceChoices } from "../../base/device.ts";
import { defineCommand, defineGroup, jsonOption } from "../command.ts";
import { devicePair } from "../device_pair.ts";
import { note, print, printJson } from "../output.ts";
import { benchData as data } from "./bench_data.ts";

const sizes = {
  preset: { type: "string", default: "10m", describe: "A model preset." },
  precision: { choices: ["fp32", "bf16"] as const, default: "bf16" as const, describe: "Compute precision." },
  batch: { type: "number", describe: "Sequences in a step. Default: 8, or 4 for 124m." },
  seq: { type: "number", describe: "Tokens in a sequence. Default: 256." },
  threads: { type: "number", default: 0, describe: "CPU threads; 0 for every CPU allowed." },
  json: jsonOption,
} as const;

const documents = {
  type: "number",
  describe: "Keep attention inside documents of so many tokens in the mean. Default: sequences are whole.",
} as const;

const device = { choices: deviceChoices, default: "auto" as const, describe: "Where the kernels run." };

interface Sizes {
  preset: string;
  precision: "fp32" | "bf16";
  batch: number | undefined;
  seq: number | undefined;
  documents?: number | undefined;
  threads: number;
  steps: number;
}

/** What is measured; the default batch is that of the published comparison. */
const sizesOf = ({ preset, precision, batch, seq, documents, threads, steps }: Sizes) => ({
  preset,
  precision,
  threads,
  steps,
  length: seq,
  documents,
  batch: batch ?? (preset === "124m" ? 4 : 8),
});

const train = defineCommand({
  command: "train",
  describe: "Tokens per second of whole training steps on random tokens",
  options: {
    ...sizes,
    device,
    documents,
    "micro-batch": { type: "number", describe: "Sequences at a time, a divisor of --batch. Default: all." },
    recompute: {
      choices: ["none", "block"] as const,
      default: "none" as const,
      describe: "What is computed again in the backward pass, to save memory.",
    },
    "gradient-sums": {
      choices: ["ordered", "any"] as const,
      default: "ordered" as const,
      describe: "The order in which gradients are added, as in a config.",
    },
    steps: { type: "number", default: 10, describe: "Steps measured." },
    warmup: { type: "number", default: 3, describe: "Steps before them that do not count." },
  },
  run: async (args) => {
    const { benchTrain } = await import("../../train/benchmark.ts");
    const { preset, precision } = args;
    const result = await benchTrain({
      ...sizesOf(args),
      device: args.device,
      microBatch: args["micro-batch"],
      recompute: args.recompute,
      gradientSums: args["gradient-sums"],
      warmup: args.warmup,
      onStep: (step, ms, loss) => note(`step ${step}  ${ms.toFixed(1)} ms  loss ${loss.toFixed(4)}`),
    });
    if (args.json) return printJson(result);
    print(
      `${preset} ${precision} on ${result.deviceClass}, ${result.threads} threads: ${result.tokensPerSecond.toFixed(0)} tokens/s (median step ${result.stepMsMedian.toFixed(1)} ms), ${result.gflops.toFixed(0)} GFLOP/s = ${(100 * result.share).toFixed(0)}% of the measured matmul rate, peak memory ${(result.peakRssBytes / 2 ** 20).toFixed(0)} MiB`,
    );
  },
});

const ops = defineCommand({
  command: "ops",
  describe: "Time, FLOP/s and bandwidth of every kernel of a training step",
  options: { ...sizes, device, documents, steps: { type: "number", default: 7, describe: "Steps measured." } },
  run: async (args) => {
    const [{ benchOps }, { formatTable }] = await Promise.all([
      import("../../train/benchmark_ops.ts"),
      import("../../report/table.ts"),
    ]);
    const timings = await benchOps({ ...sizesOf(args), device: args.device });
    if (args.json) return printJson(timings);
    const right = (title: string) => ({ title, align: "right" as const });
    const rows = timings.map((t) => [
      t.op,
      t.shapes,
      String(t.calls),
      t.milliseconds.toFixed(3),
      t.gflops.toFixed(0),
      t.gigabytesPerSecond.toFixed(1),
      `${(100 * t.share).toFixed(1)}%`,
    ]);
    print(
      formatTable(["op", "shapes", right("calls"), right("ms"), right("GFLOP/s"), right("GB/s"), right("share")], rows),
    );
  },
});

const parity = defineCommand({
  command: "parity",
  describe: "Loss curves of the same training run on two devices; exit code 1 when they part",
  options: {
    ...sizes,
    devices: { type: "string", default: "cpu,cuda", describe: "Two devices, the reference first." },
    steps: { type: "number", default: 200, describe: "Steps trained." },
    seed: { type: "number", default: 1, describe: "Of the weights and the synthetic text." },
  },
  examples: [["thalweg bench parity --devices cpu,cuda --preset 10m --steps 200", "a GPU held against the CPU"]],
  run: async (args) => {
    const devices = devicePair("--devices", args.devices);
    const { trainingParity } = await import("../../train/parity.ts");
    const result = await trainingParity({
      ...sizesOf(args),
      devices,
      seed: args.seed,
      onStep: (step, [a, b]) => {
        if (step % 10 === 0 || step === args.steps - 1)
          note(`step ${step + 1}/${args.steps}  loss ${a.toFixed(4)} and ${b.toFixed(4)}`);
      },
    });
    if (!result.ok) process.exitCode = 1;
    if (args.json) return printJson(result);
    const [mean, largest] = [result.meanDifference, result.largestDifference].map((d) => d.toExponential(1));
    print(
      `${args.preset} ${args.precision}, ${result.steps} steps on ${result.deviceClasses.join(" and ")}: losses differ by ${mean} on average (at most ${largest}), ${result.ok ? "within" : "NOT within"} ${result.tolerance}; the loss fell by ${result.fall.toFixed(2)}`,
    );
  },
});

export const bench = defineGroup("bench", "Measure speed", [train, ops, parity, data]);
