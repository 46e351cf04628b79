import { z } from "zod";
import { durationSchema } from "./quantities.ts";
import { decayShapes } from "./schedule_parts.ts";

const label = z.string().min(1);
const fields = z.record(z.string(), z.unknown());
const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dots, dashes and underscores")
  .describe("Name, used for folders and tables.");

/** One value of an axis: the value itself, or a label with a value, with fields of the run, or with both. */
const axisValue = z.union(
  [
    z.number(),
    z.string(),
    z.boolean(),
    z.null(),
    z.strictObject({
      label: label.describe("How tables and figures call it."),
      value: z.unknown().optional().describe("What $NAME stands for. Default: the label."),
      set: fields.optional().describe("Fields of the run that this value sets."),
    }),
  ],
  "a value, or { label, value, set }",
);

const range = z
  .tuple([z.number(), z.number()])
  .refine(([low, high]) => high > low, "two numbers, the smaller one first");

/** The values of an axis, listed or, for a random combination, drawn. */
const axis = z.union(
  [
    z.array(axisValue).min(1),
    z.strictObject({ uniform: range.describe("Drawn evenly between the two.") }),
    z.strictObject({ logUniform: range.describe("Drawn evenly in the logarithm between the two.") }),
  ],
  "a list of values, { uniform: [low, high] } or { logUniform: [low, high] }",
);

const combine = z.strictObject({
  zip: z
    .array(z.array(z.string()).min(2))
    .default([])
    .describe("Groups of axes that step together instead of forming a grid; their lists have the same length."),
  random: z
    .strictObject({
      seed: z.int().nonnegative().describe("Seed of the draw."),
      count: z.int().positive().describe("Combinations to draw."),
    })
    .optional()
    .describe("Draw combinations instead of taking the whole grid; replicate axes (seed, data.seed) stay whole."),
  list: z.array(fields).default([]).describe("Further combinations, each naming a value for every axis."),
});

/** Averages of a run's checkpoints. */
export const mergeSchema = z
  .strictObject({
    over: durationSchema.describe(
      "From the first checkpoint to the deliverable: steps, tokens, or a share of its steps.",
    ),
    count: z.int().min(2).max(1000).describe("How many checkpoints, evenly spaced, both ends among them."),
    like: z.enum(decayShapes).optional().describe("Weigh updates as a decay of this shape over them would (WSM)."),
    floor: z.number().min(0).max(1).default(0.1).describe("Floor of that decay, as a ratio of the peak."),
    ema: z.number().gt(0).lt(1).optional().describe("Exponential average over the checkpoints with this decay."),
  })
  .refine(({ like, ema }) => like === undefined || ema === undefined, "one of like, ema; neither weighs all the same");
export type MergeSpec = z.output<typeof mergeSchema>;

const schedule = z.strictObject({
  lr: fields.describe(
    "Fields of schedule.lr laid over the base's. $budget: one run for each budget; $budgets: one run to all of them; $end and $ends: the same at N_k, the budgets with the decays before them; $NAME: the value of an axis.",
  ),
  set: fields.default({}).describe("Other fields of the run."),
  deliver: z
    .enum(["each", "last"])
    .default("each")
    .describe("Of a run to several budgets: the weights at each of them, or the last only."),
  weights: z
    .union([z.enum(["last", "ema"]), z.strictObject({ merge: fields })], '"last", "ema" or { merge: .. }')
    .default("last")
    .describe(
      "What is delivered: the last weights; their moving average (optimizer.ema); or a mean of checkpoints, { over, count, like, floor, ema }.",
    ),
  control: z
    .boolean()
    .default(false)
    .describe("Trained for comparison with the decays only: no deliverable of its own."),
});

const comparison = z.strictObject({
  of: z.string().describe("What differs: schedule, or the name of an axis."),
  baseline: z.string().describe("The schedule or the axis value's label that the others are compared with."),
});

const tuning = z.strictObject({
  per: z.array(z.string()).default([]).describe("Axes with a peak of their own for each value, beside each schedule."),
  seeds: z.array(z.int().nonnegative()).min(1).describe("Seeds for tuning; the result is reported on others."),
  start: z.number().positive().optional().describe("First peak tried. Default: what a range test suggests."),
  factor: z.number().gt(1).default(2).describe("Ratio between neighbouring peaks of the grid."),
  limit: z.int().positive().default(8).describe("Most peaks tried for one schedule."),
  budget: durationSchema.optional().describe("Nominal budget tuned at. Default: the study's last."),
  schedules: z.array(z.string()).optional().describe("Schedules to tune. Default: those whose peak is `tuned`."),
  set: fields.default({}).describe("Fields of the run for tuning: another part of the validation data, for one."),
});

const rangeTest = z.strictObject({
  steps: z.int().positive().default(200).describe("Steps of the sweep."),
  from: z.number().positive().default(1e-4).describe("First learning rate."),
  to: z.number().positive().default(1).describe("Last learning rate."),
});

/** How the text or the synthetic language of a study becomes its data. */
const preparation = z
  .strictObject({
    inputs: z
      .array(z.string())
      .min(1)
      .optional()
      .describe("Files, folders, globs or packages: as `data prepare` takes them."),
    synthetic: z
      .strictObject({
        language: z.enum(["bigram", "facts", "hierarchical"]).describe("As `data synthesize` calls it."),
        tokens: z.int().positive().describe("Tokens of training data, about."),
        validationTokens: z.int().positive().optional().describe("Default: a twentieth of that."),
        seed: z.int().nonnegative().default(0).describe("Seed of the language and its documents."),
        vocab: z.int().positive().optional().describe("Symbols of bigram and hierarchical."),
        certain: z.number().min(0).max(1).optional().describe("Share of certain symbols of bigram."),
        people: z.int().positive().optional().describe("People of facts."),
        topics: z.int().positive().optional().describe("Topics of hierarchical."),
      })
      .optional()
      .describe("Data of known statistics instead of text: the true entropy of every token stands beside it."),
    tokenizer: z.string().default("bytes").describe("Tokenizer of the text."),
    validationFraction: z.number().min(0).lt(1).optional().describe("Share of the text kept for validation."),
    splitBy: z.enum(["document", "group", "tail"]).optional().describe("How the validation text is chosen."),
  })
  .refine(({ inputs, synthetic }) => (inputs === undefined) !== (synthetic === undefined), "one of inputs, synthetic");

const execution = z.strictObject({
  jobs: z
    .union([z.literal("auto"), z.int().positive()], '"auto" or a number')
    .default("auto")
    .describe("Segments trained at the same time on this machine; auto: one for each CPU that memory has room for."),
  threads: z
    .union([z.literal("auto"), z.int().positive()], '"auto" or a number')
    .default("auto")
    .describe("Threads of one segment; auto: the CPUs divided by jobs. Never changes the result."),
  order: z
    .enum(["longest", "replicate"])
    .default("longest")
    .describe(
      "What is trained first. longest: what has most work behind it, so that all ends early; replicate: everything of one seed before the next, so that a part is already worth something.",
    ),
  checkpoints: z
    .enum(["all", "needed"])
    .default("all")
    .describe("Which ends of segments keep their weights. needed: those that something still goes on from."),
  slurm: z
    .strictObject({
      sbatch: z
        .array(z.string())
        .default([])
        .describe('Resource lines for sbatch, as "--partition=gpu", "--gpus-per-task=1", "--time=04:00:00".'),
      before: z.string().default("").describe("Shell commands before the command itself: modules, environments."),
      warning: z
        .int()
        .positive()
        .default(120)
        .describe("Seconds before the time limit at which the job is told to save and is queued again."),
      command: z
        .string()
        .optional()
        .describe("How a job starts the command line. Default: this Node with this installation."),
      concurrent: z.int().positive().optional().describe("Most tasks of one array at the same time."),
    })
    .prefault({})
    .describe("For `study run --executor slurm`."),
});

/** A study as YAML says it. */
export const studySchema = z.strictObject({
  name,
  question: z.string().default("").describe("What the study asks, one sentence; printed above its report."),
  kind: z
    .enum(["demonstration", "claim"])
    .default("demonstration")
    .describe("What the report calls itself. A claim needs tuned peaks, at least five fresh seeds and a margin."),
  base: z.string().describe("Run configuration that every run starts from, relative to the file that says so."),
  set: fields.default({}).describe("Fields of the run laid over the base's, for every run."),
  prepare: preparation
    .nullable()
    .default(null)
    .describe("What `study run` makes data.train of when that folder does not exist yet."),
  budgets: z
    .array(durationSchema)
    .min(1)
    .optional()
    .describe("Nominal budgets B_k, increasing. Default: the end of each run."),
  ends: z
    .array(durationSchema)
    .min(1)
    .optional()
    .describe("N_k, the budgets with the decays before them. Default: those of the study's own WSD-S."),
  schedules: z.record(z.string(), schedule).default({}).describe("The schedules compared. Default: the base's."),
  axes: z.record(z.string(), axis).default({}).describe("What varies: a field of the run, or a $NAME used elsewhere."),
  combine: combine.prefault({}).describe("How the axes combine. Default: all with all."),
  compare: z.array(comparison).default([]).describe("Paired comparisons against named baselines."),
  margin: z
    .number()
    .positive()
    .optional()
    .describe("Largest difference in nats per token that counts as none, for equivalence tests; declared beforehand."),
  alpha: z.number().gt(0).lt(0.5).default(0.05).describe("Level of tests, and 1 - coverage of intervals."),
  tuning: tuning.optional().describe("How `thalweg tune` finds the peaks that schedules call `tuned`."),
  rangeTest: rangeTest.prefault({}).describe("The sweep that suggests where tuning starts."),
  execution: execution.prefault({}).describe("Where and how many at a time."),
});

export type StudySpec = z.output<typeof studySchema>;
export type StudySpecInput = z.input<typeof studySchema>;
export type ScheduleArm = StudySpec["schedules"][string];
