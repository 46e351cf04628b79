import { z } from "zod";
import { deviceChoices } from "../base/device.ts";
import { bytesSchema } from "./quantities.ts";
import { batchScheduleSchema, lengthScheduleSchema, scalarSchema, scheduleSchema } from "./schedule_schema.ts";

const count = z.int().nonnegative();
const atLeastOne = z.int().positive();
const seed = z.int().nonnegative();

const init = z.strictObject({
  scheme: z
    .enum(["paper", "gpt2"])
    .default("paper")
    .describe("paper: truncated normal times 1/sqrt(fan in); gpt2: normal with `std`, residual outputs scaled down."),
  std: z.number().positive().optional().describe("Standard deviation of the gpt2 scheme. Default 0.02."),
});

const requiredModelFields = ["dim", "layers", "heads", "ffn"] as const;

const model = z
  .strictObject({
    preset: z.string().min(1).optional().describe("Name of a preset; fields beside it replace the preset's."),
    vocab: atLeastOne.optional().describe("Vocabulary size. Default: that of the data's tokenizer."),
    dim: atLeastOne.optional().describe("Width of the residual stream."),
    layers: atLeastOne.optional().describe("Number of blocks."),
    heads: atLeastOne.optional().describe("Number of query heads."),
    kvHeads: atLeastOne.optional().describe("Number of key and value heads. Default: heads."),
    headDim: atLeastOne.optional().describe("Width of one head. Default: dim / heads."),
    ffn: atLeastOne.optional().describe("Inner width of the gated MLP."),
    maxLength: atLeastOne.optional().describe("Longest context the rotary table is built for. Default: batch.length."),
    ropeTheta: z.number().positive().optional().describe("Base of the rotary frequencies. Default 10000."),
    normEps: z.number().positive().optional().describe("Epsilon of RMSNorm. Default 1e-5."),
    tied: z.boolean().optional().describe("Share the embedding matrix with the output head. Default false."),
    qkNorm: z.boolean().optional().describe("RMSNorm on queries and keys, per head. Default false."),
    zLoss: z.number().nonnegative().optional().describe("Weight of the squared log-partition penalty. Default 0."),
    init: init.optional().describe("How the weights start. Default: the paper's scheme."),
  })
  .superRefine((value, context) => {
    const missing = requiredModelFields.filter((field) => value[field] === undefined);
    if (value.preset !== undefined || missing.length === 0) return;
    context.addIssue({
      code: "custom",
      message: `a preset, or all of dim, layers, heads, ffn (missing: ${missing.join(", ")})`,
    });
  });

const mixtureWeights = z.record(z.string(), z.number().nonnegative());

const data = z.strictObject({
  train: z
    .string()
    .min(1)
    .describe("Folder that `thalweg data prepare` made, or one split of it; with `weights`, a folder of such folders."),
  validation: z
    .union([z.string().min(1), z.record(z.string(), z.string().min(1))], "a folder, or a name and folder for each set")
    .nullable()
    .default(null)
    .describe("Validation split, or several by name. Default: those inside or beside the training data."),
  weights: mixtureWeights
    .nullable()
    .default(null)
    .describe(
      "Mixes the folders of these names in `train`, in these shares of tokens, for example { web: 3, code: 1 }.",
    ),
  changes: z
    .array(
      z.strictObject({
        at: z
          .union([atLeastOne, z.literal("decay")], 'a step or "decay"')
          .describe("From this step on; decay: in each decay of the schedule, and as before after it."),
        weights: mixtureWeights.describe("Shares from there on."),
      }),
    )
    .default([])
    .describe("Changes of `weights` on the way."),
  seed: seed.optional().describe("Seed of the data order. Default: the run's seed."),
  attention: z
    .enum(["sequence", "documents"])
    .default("sequence")
    .describe(
      "What a token sees before it. sequence: all of its sequence, other documents included; documents: only its own document, in training and validation.",
    ),
  onEnd: z
    .enum(["repeat", "stop"])
    .default("repeat")
    .describe("When every token was read once: repeat in a new order, or stop the run."),
});

const batch = z
  .strictObject({
    length: atLeastOne.describe("Tokens in a sequence."),
    sequences: atLeastOne.optional().describe("Sequences in a step. Give this or `tokens`."),
    tokens: atLeastOne.optional().describe("Tokens in a step, a multiple of `length`. Give this or `sequences`."),
    microBatch: z
      .union([z.literal("auto"), atLeastOne], '"auto" or a number of sequences')
      .default("auto")
      .describe("Sequences computed at once; auto picks the most that fit in memory. Never changes the data order."),
  })
  .superRefine((value, context) => {
    const { length, sequences, tokens } = value;
    const complain = (path: string[], message: string) => context.addIssue({ code: "custom", path, message });
    if (sequences === undefined && tokens === undefined) complain([], "exactly one of sequences, tokens (found none)");
    if (tokens !== undefined && tokens % length !== 0) complain(["tokens"], `a multiple of batch.length (${length})`);
    if (sequences !== undefined && tokens !== undefined && sequences * length !== tokens)
      complain(["tokens"], `${sequences * length}, as batch.sequences and batch.length say; give only one of the two`);
  });

const optimizer = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9).describe("Decay of AdamW's first moment."),
  beta2: z.number().min(0).lt(1).default(0.95).describe("Decay of AdamW's second moment."),
  eps: z.number().positive().default(1e-8).describe("AdamW's epsilon, added to the root of the second moment."),
  weightDecay: z
    .number()
    .nonnegative()
    .default(0.1)
    .describe("Decoupled weight decay of linear weights; norms and embeddings have none unless a group says so."),
  clip: z.number().nonnegative().default(1).describe("Largest global gradient norm; 0 turns clipping off."),
  ema: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe(
      "Decay per update of an exponential moving average of the weights, kept, saved and evaluated beside them. Default: none.",
    ),
  groups: z
    .array(
      z.strictObject({
        match: z
          .string()
          .min(1)
          .refine(
            isParameterMatch,
            "kind:norm, kind:embedding, kind:linear, or a regular expression on parameter names",
          )
          .describe('"kind:norm", "kind:embedding", "kind:linear", or a regular expression on the parameter name.'),
        lrScale: z.number().nonnegative().optional().describe("Factor on the learning rate of these parameters."),
        // No default: a group that only changes the learning rate of the norms must not switch their weight decay on.
        weightDecayScale: z
          .number()
          .nonnegative()
          .optional()
          .describe("Factor on their weight decay. Default: 1 for linear weights, 0 for norms and embeddings."),
      }),
    )
    .default([])
    .describe(
      "Parameters with their own learning rate or weight decay; for each factor the first group that matches and states it wins.",
    ),
});

function isParameterMatch(text: string): boolean {
  if (text.startsWith("kind:")) return ["kind:norm", "kind:embedding", "kind:linear"].includes(text);
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Upper bounds of the entropy classes, in nats: certain tokens, then choices of about 2, 4 and 8 equally likely ones (the
 * bounds lie between them), and one class more for what is above.
 */
export const defaultEntropyBounds: readonly number[] = [0, 1, 1.75, 2.4];

const evaluation = z.strictObject({
  every: count.default(100).describe("Steps between validation losses; 0 for none."),
  sequences: atLeastOne.default(64).describe("Number of fixed validation sequences."),
  skip: count
    .default(0)
    .describe("Validation sequences passed over first: peaks are tuned on one part, results measured on another."),
  atDecays: z.boolean().default(true).describe("Also evaluate before and after each decay."),
  entropyBounds: z
    .array(z.number().nonnegative())
    .default([...defaultEntropyBounds])
    .refine((bounds) => bounds.every((bound, i) => i === 0 || bound > bounds[i - 1]!), "must rise")
    .describe(
      "Upper bounds (nats) of the classes of true entropy by which the loss on generated data is split: certain tokens, then choices of about 2, 4, 8 and more.",
    ),
});

const checkpoints = z.strictObject({
  every: count.default(0).describe("Steps between checkpoints; 0 for none but those at decays and at the end."),
  keep: atLeastOne.default(2).describe("How many regular checkpoints to keep; those at decays are pinned."),
  atDecays: z.boolean().default(true).describe("Also save before and after each decay."),
  finalOnly: z.boolean().default(false).describe("Save only at the end of the run; overrules `every` and `atDecays`."),
});

const memory = z.strictObject({
  recompute: z
    .enum(["none", "block"])
    .default("none")
    .describe("block: keep only block inputs and compute the rest again in the backward pass; same bits, less memory."),
  limit: bytesSchema
    .nullable()
    .default(null)
    .describe('Most memory to plan for, in bytes or as "8GiB". Default: what the device has.'),
  headChunk: z
    .union([z.literal("auto"), atLeastOne], '"auto" or a number of rows')
    .default("auto")
    .describe("Rows of logits held at once by the output head."),
});

const log = z.strictObject({
  every: atLeastOne.default(10).describe("Steps between progress lines."),
  tensorboard: z.boolean().default(false).describe("Also write TensorBoard event files."),
});

const detectors = z.strictObject({
  spike: z
    .strictObject({
      window: z.int().min(8).default(128).describe("Steps of the stable phase that tell what is normal."),
      sigmas: z
        .number()
        .nonnegative()
        .default(6)
        .describe("Warn when a loss lies this many deviations above; 0 turns it off."),
    })
    .prefault({})
    .describe("Warns of loss spikes in the stable phase."),
  weakDecay: z
    .strictObject({
      minimumDrop: z
        .number()
        .nonnegative()
        .default(0.02)
        .describe("Warn when a decay lowers the validation loss by less than this, in nats; 0 turns it off."),
    })
    .prefault({})
    .describe("Warns when a decay gains too little."),
});

/** One run as YAML says it: every field with its default and its sentence of documentation. */
export const runSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dots, dashes and underscores")
    .default("run")
    .describe("Name of the run, used for its folder."),
  seed: seed.default(1).describe("Seed of the initial weights."),
  device: z.enum(deviceChoices).default("auto").describe("Where to run; cuda never falls back to the CPU."),
  threads: count.default(0).describe("CPU threads; 0 for every CPU allowed. Never changes the result."),
  precision: z
    .enum(["bf16", "fp32"])
    .default("bf16")
    .describe("bf16: bf16 weights and activations, fp32 master weights and sums."),
  gradientSums: z
    .enum(["ordered", "any"])
    .default("ordered")
    .describe(
      "ordered: gradients are added up in a fixed order, the same bits every time; any: in whatever order is fastest where a device's kernels have the choice (attention on compute capability 9.0 in bf16), so that no two runs there have the same bits.",
    ),
  model: model.describe("The network: a preset, or its fields."),
  data: data.describe("What is read, in which order."),
  batch: batch.describe("How much a step reads."),
  optimizer: optimizer.prefault({}).describe("AdamW with the paper's defaults."),
  schedule: z
    .strictObject({
      lr: scheduleSchema.describe("Learning rate."),
      weightDecay: scalarSchema.optional().describe("Weight decay. Default: optimizer.weightDecay throughout."),
      beta1: scalarSchema.optional().describe("Decay of the first moment. Default: optimizer.beta1 throughout."),
      beta2: scalarSchema.optional().describe("Decay of the second moment. Default: optimizer.beta2 throughout."),
      clip: scalarSchema.optional().describe("Largest gradient norm. Default: optimizer.clip throughout."),
      ema: scalarSchema.optional().describe("Decay of the weights' average. Default: optimizer.ema throughout."),
      batch: batchScheduleSchema.optional().describe("Sequences in a step. Default: those of `batch` throughout."),
      length: lengthScheduleSchema
        .optional()
        .describe("Tokens that see one another. Default: batch.length throughout."),
    })
    .describe("Scalars that change over the run."),
  steps: z
    .union([atLeastOne, z.literal("open")], 'a number of steps, "open" or null')
    .nullable()
    .default(null)
    .describe("Where the run stops. Default: the schedule's end; open: no horizon, for constant schedules."),
  evaluation: evaluation.prefault({}).describe("Validation loss on a fixed set."),
  checkpoints: checkpoints.prefault({}).describe("When to save, what to keep."),
  memory: memory.prefault({}).describe("How the run fits in memory."),
  log: log.prefault({}).describe("Progress and records."),
  detectors: detectors.prefault({}).describe("Warnings that say what to try."),
});

type Parsed = z.output<typeof runSchema>;

/** What a user may write. */
export type RunConfigInput = z.input<typeof runSchema>;

/** A resolved run: as parsed, with the data seed and both forms of the batch filled in. */
export interface RunConfig extends Omit<Parsed, "data" | "batch"> {
  data: Omit<Parsed["data"], "seed"> & { seed: number };
  batch: Omit<Parsed["batch"], "sequences" | "tokens"> & { sequences: number; tokens: number };
}

/** Fills in values that follow from others. `parsed` has passed runSchema. Resolving twice changes nothing. */
export function resolveRun(parsed: Parsed): RunConfig {
  const { length } = parsed.batch;
  const sequences = parsed.batch.sequences ?? parsed.batch.tokens! / length;
  return {
    ...parsed,
    data: { ...parsed.data, seed: parsed.data.seed ?? parsed.seed },
    batch: { ...parsed.batch, sequences, tokens: sequences * length },
  };
}
