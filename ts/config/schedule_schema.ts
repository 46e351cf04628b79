import { z } from "zod";
import { durationSchema } from "./quantities.ts";
import {
  curveShapes,
  decaySchema,
  exactlyOne,
  floor,
  interruptionSchema,
  levelSchema,
  rewarmupSchema,
  warmupSchema,
} from "./schedule_parts.ts";

export type { DecayRequest, DecaySpec, Interruption, Level, WarmupSpec } from "./schedule_parts.ts";

export const scheduleShapes = [
  "constant",
  "cosine",
  "linear",
  "wsd",
  "wsd_s",
  "cyclic_cosine",
  "trapezoid",
  "one_cycle",
  "inverse_sqrt",
  "power",
  "range_test",
  "phases",
  "table",
  "follow_lr",
] as const;

/** Ways to say where cycles end. */
export const cycleLayouts = ["budgets", "ends", "cycles", "doubling"] as const;

const steps = durationSchema
  .optional()
  .describe("Length of the whole schedule, warm-up included. Default: the run's `steps`.");

const cosinePower = z.number().positive().optional().describe("Exponent on the cosine. Default 1.");

const budgets = z
  .array(durationSchema)
  .min(1)
  .optional()
  .describe("Nominal budgets, increasing. Budget k is delivered at N_k = B_k + the decays before it.");

const cycleFields = {
  ends: z.array(durationSchema).min(1).optional().describe("Where each cycle ends, increasing: N_k themselves."),
  cycles: z
    .strictObject({
      length: durationSchema.optional().describe("Length of a cycle. Default: the run's `steps` in `count` parts."),
      count: z.int().positive().optional().describe("How many. Default: as many as the run's `steps` hold."),
      last: z
        .enum(["refuse", "shorter", "longer"])
        .default("refuse")
        .describe("When the run's steps are no multiple: refuse, add a shorter cycle, or lengthen the last one."),
    })
    .refine((cycles) => cycles.length !== undefined || cycles.count !== undefined, "a length, a count, or both")
    .optional()
    .describe("Cycles of one length."),
  doubling: z
    .strictObject({
      last: durationSchema.describe("The last budget."),
      count: z.int().positive().max(60).describe("How many budgets."),
      ratio: z.number().gt(1).default(2).describe("Each budget is so many times the one before it."),
    })
    .optional()
    .describe("Budgets in geometric progression: last, last / 2, last / 4, ..."),
  rewarmup: rewarmupSchema.optional().describe("Warm up again at the start of each later cycle. Default: jump."),
  peaks: z
    .union([z.array(z.number().gt(0).max(1)).min(1), z.literal("1/sqrt")], 'a list of ratios, one a cycle, or "1/sqrt"')
    .optional()
    .describe("Peak of each cycle as a ratio of `peak`; 1/sqrt: sqrt(first end / its end). Default: all 1."),
};

const wsdS = z.strictObject({ budgets, ...cycleFields, decay: decaySchema.prefault({}).describe("How each ends.") });

const { ends, cycles, doubling, rewarmup, peaks } = cycleFields;
const cyclicCosine = z.strictObject({ ends, cycles, doubling, rewarmup, peaks, floor, power: cosinePower });

const phase = z.strictObject({
  steps: durationSchema.optional().describe("Length. Default, for the last one: up to the run's `steps`."),
  to: levelSchema.optional().describe("Value at its end. Default: as at its start, held."),
  from: levelSchema.optional().describe("Value at its start. Default: where the phase before it ended."),
  shape: z.enum(curveShapes).default("linear").describe("How it gets there."),
  power: z.number().positive().optional().describe("Exponent of a polynomial (default 2) or a cosine (default 1)."),
  of: durationSchema.optional().describe("Length of the whole curve, where only its first `steps` are used."),
  deliver: z.boolean().default(false).describe("A budget ends with it: evaluate and save before and after."),
});

const inverseSqrt = z.strictObject({
  steps,
  timescale: durationSchema.optional().describe("Timescale. Default: the warm-up's length, or 10,000 without one."),
  floor: floor.unwrap().default(0).describe("The lowest value: a ratio of the peak, or {value: 1e-5}."),
});

const powerLaw = z.strictObject({
  steps,
  a: z.number().positive().default(4.6).describe("Amplitude."),
  b: z.number().negative().default(-0.51).describe("Exponent of the tokens read."),
  decay: decaySchema.optional().describe("How it ends. Default: it does not."),
});

const shapes = {
  constant: z
    .strictObject({})
    .optional()
    .describe("Stay at the peak after the warm-up; the only shape that needs no end."),
  cosine: z
    .strictObject({ steps, floor, power: cosinePower })
    .optional()
    .describe("Half a cosine from the peak to the floor."),
  linear: z
    .strictObject({ steps, floor })
    .optional()
    .describe("A straight line from the peak to the floor; with floor 0 it is D2Z."),
  wsd: z
    .strictObject({ steps, decay: decaySchema.prefault({}).describe("How it ends.") })
    .optional()
    .describe("Warm-up, stable, decay: one decay at the end of `steps`."),
  wsd_s: wsdS
    .superRefine(exactlyOne(cycleLayouts))
    .optional()
    .describe("Several budgets in one run: each ends in a decay, then the rate jumps back to the peak."),
  cyclic_cosine: cyclicCosine
    .superRefine(exactlyOne(["ends", "cycles", "doubling"]))
    .optional()
    .describe("A cosine in each cycle, then back to the peak, at once or by a second warm-up."),
  trapezoid: z
    .strictObject({
      steps,
      fraction: z.number().gt(0).lt(1).default(0.2).describe("Share of the schedule that falls."),
      floor: floor.unwrap().default(0).describe("The lowest value: a ratio of the peak, or {value: 1e-5}."),
    })
    .optional()
    .describe("Warm-up, stable, a straight line down."),
  one_cycle: z
    .strictObject({
      steps,
      up: z.number().gt(0).lt(1).default(0.3).describe("Share of the schedule that rises."),
      from: levelSchema.default(0.04).describe("Value of the first update."),
      floor: floor.unwrap().default(4e-6).describe("Value at the end."),
      shape: z.enum(["cosine", "linear"]).default("cosine").describe("Curve of both parts."),
    })
    .optional()
    .describe("Up to the peak and far down again (Smith & Topin 2018); it is its own warm-up."),
  inverse_sqrt: inverseSqrt.optional().describe("After the warm-up, peak * sqrt(timescale / step)."),
  power: powerLaw
    .optional()
    .describe("Power scheduler: min(peak, sequences * a * tokens^b) (Shen et al. 2024), then perhaps a decay."),
  range_test: z
    .strictObject({
      steps,
      from: levelSchema.default(1e-4).describe("Value of the first update."),
      shape: z.enum(["exponential", "linear"]).default("exponential").describe("How it grows."),
    })
    .optional()
    .describe("Grow to the peak over the whole run and watch the loss; it is its own warm-up."),
  phases: z.array(phase).min(1).optional().describe("Phases one after the other, after the warm-up."),
  table: z
    .strictObject({
      points: z
        .array(z.tuple([durationSchema, z.number().nonnegative()]))
        .min(1)
        .describe("Pairs of a step and a ratio of the peak, in order; the first at step 0."),
      interpolation: z.enum(["linear", "cosine", "hold"]).default("linear").describe("What stands between them."),
    })
    .optional()
    .describe("Values as listed."),
  follow_lr: z
    .strictObject({})
    .optional()
    .describe("In proportion to the learning rate: peak where that is at its peak. Not for the learning rate itself."),
};

const common = {
  warmup: warmupSchema
    .default(0)
    .describe("Length of the linear warm-up from 0, inside the first cycle; or {steps, shape, from}."),
  after: z
    .enum(["stop", "stay"])
    .optional()
    .describe(
      "At the schedule's end: stop, or stay at the last value as long as the run's `steps` say. Default: stop.",
    ),
  countFrom: z
    .union([z.literal(0), z.literal(1)], "0 or 1")
    .optional()
    .describe(
      "0 (default): a phase of D updates has the values at t/D for t = 0 .. D-1; 1: for t = 1 .. D, so that its last update is at its end.",
    ),
  compat: z
    .enum(["levanter", "hf", "megatron", "olmo"])
    .optional()
    .describe("Reproduce the values of another library exactly; docs/schedules.md says how each differs."),
  interruptions: z
    .array(interruptionSchema)
    .optional()
    .describe("Decays that cut in at a step, in order; `thalweg decay` writes them."),
};

interface Ruled extends Partial<Record<(typeof scheduleShapes)[number], unknown>> {
  warmup?: unknown;
}

/** Exactly one shape, and no warm-up beside one that has its own. */
function shapeRules(spec: Ruled, context: z.RefinementCtx): void {
  exactlyOne(scheduleShapes)(spec, context);
  if (spec.warmup === 0) return;
  for (const own of ["one_cycle", "range_test", "table", "follow_lr"] as const)
    if (spec[own] !== undefined)
      context.addIssue({ code: "custom", path: ["warmup"], message: `no warm-up beside ${own}, which has its own` });
}

/**
 * How the learning rate changes over a run: a peak, a warm-up, and exactly one shape. New shapes are new keys here and a
 * builder in ts/schedule/shapes.ts.
 */
export const scheduleSchema = z
  .strictObject({
    peak: z.number().positive().describe("The highest value, held in the stable phase."),
    ...common,
    ...shapes,
  })
  .superRefine(shapeRules);

/** The same for a scalar of the optimizer, whose value there is the peak unless one is said. */
export const scalarSchema = z
  .strictObject({
    peak: z.number().positive().optional().describe("The highest value. Default: the one in `optimizer`."),
    ...common,
    ...shapes,
  })
  .superRefine(shapeRules)
  .meta({ id: "scalar" });

/** Sizes of a step over a run, and what they do to the learning rate. */
export const batchScheduleSchema = z.strictObject({
  stages: z
    .array(
      z.strictObject({
        at: durationSchema.describe("Finished updates from which it holds, or tokens or sequences read by then."),
        sequences: z.int().positive().describe("Sequences in a step from then on."),
      }),
    )
    .min(1)
    .describe("Later sizes, in order; `batch` says the first."),
  lr: z
    .enum(["keep", "sqrt", "linear"])
    .default("keep")
    .describe("What the learning rate does: keep, or grow with the square root of the batch, or with the batch."),
});
export type BatchScheduleSpec = z.output<typeof batchScheduleSchema>;

/** Lengths of the sequences over a run. Tokens of a step and their order stay what they are. */
export const lengthScheduleSchema = z.strictObject({
  stages: z
    .array(
      z.strictObject({
        at: z
          .union([z.literal(0), durationSchema], "0 or a duration")
          .describe("Finished updates from which it holds, or tokens or sequences read by then."),
        length: z
          .int()
          .positive()
          .describe("Tokens in a sequence from then on; batch.length is a multiple: its sequences are cut into such."),
      }),
    )
    .min(1)
    .describe("In order; before the first one batch.length holds."),
});
export type LengthScheduleSpec = z.output<typeof lengthScheduleSchema>;

export type ScheduleSpec = z.output<typeof scheduleSchema>;
export type ScheduleSpecInput = z.input<typeof scheduleSchema>;
export type ScalarSpec = z.output<typeof scalarSchema>;
