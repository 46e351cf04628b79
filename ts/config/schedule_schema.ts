import { z } from "zod";
import { durationSchema } from "./quantities.ts";

/** Adds the rule that of some keys exactly one is present; the message names what was found. */
function exactlyOne<Keys extends string>(keys: readonly Keys[]) {
  return (value: Partial<Record<Keys, unknown>>, context: z.RefinementCtx): void => {
    const found = keys.filter((key) => value[key] !== undefined);
    if (found.length === 1) return;
    context.addIssue({
      code: "custom",
      message: `exactly one of ${keys.join(", ")} (found ${found.length === 0 ? "none" : found.join(" and ")})`,
    });
  };
}

const floor = z
  .number()
  .min(0)
  .max(1)
  .default(0.1)
  .describe("The lowest learning rate, as a ratio of the peak, reached at the end.");

export const decayShapes = ["inverse", "linear"] as const;
export const decayBases = ["cumulative", "cycle", "total"] as const;
export const scheduleShapes = ["constant", "cosine", "linear", "wsd", "wsd_s"] as const;

/** The decay of WSD and WSD-S. Its length is a fraction of something, or a number of steps. */
export const decaySchema = z
  .strictObject({
    fraction: z
      .number()
      .gt(0)
      .lt(1)
      .optional()
      .describe("Length of each decay as a fraction of what `of` names. Default 0.1 when `steps` is absent."),
    of: z
      .enum(decayBases)
      .default("cumulative")
      .describe(
        "What `fraction` is a fraction of: the cumulative nominal budget (as in the paper's runs), the steps since the last budget ended (cycle), or the last budget (total).",
      ),
    steps: z
      .union(
        [durationSchema, z.array(durationSchema).min(1)],
        "a duration, or a list with one duration for each budget",
      )
      .optional()
      .describe(
        "Length of each decay as a duration, or a list with one duration for each budget; instead of `fraction`.",
      ),
    shape: z
      .enum(decayShapes)
      .default("inverse")
      .describe("inverse: 1/lr grows linearly (the paper's decay); linear: lr falls linearly."),
    floor,
    compat: z
      .literal("levanter")
      .optional()
      .describe("Repeat the second value of an inverse decay in its first step, as Levanter's `inv` schedule does."),
  })
  .superRefine((decay, context) => {
    if (decay.fraction !== undefined && decay.steps !== undefined) exactlyOne(["fraction", "steps"])(decay, context);
    if (decay.shape === "inverse" && decay.floor === 0) {
      context.addIssue({
        code: "custom",
        path: ["floor"],
        message: "a ratio above 0, because an inverse decay to 0 divides by zero; use shape: linear to decay to 0",
      });
    }
    if (decay.compat !== undefined && decay.shape !== "inverse") {
      context.addIssue({
        code: "custom",
        path: ["compat"],
        message: "no compat with shape linear: it is for inverse decays",
      });
    }
  });

const steps = durationSchema
  .optional()
  .describe("Length of the whole schedule, warm-up included. Default: the run's `steps`.");

/**
 * How one scalar changes over a run: a peak, a warm-up, and exactly one shape. New shapes are new keys here and a builder
 * in ts/schedule/shapes.ts.
 */
export const scheduleSchema = z
  .strictObject({
    peak: z.number().positive().describe("The highest value, held in the stable phase."),
    warmup: durationSchema.default(0).describe("Length of the linear warm-up from 0, inside the first cycle."),
    constant: z
      .strictObject({})
      .optional()
      .describe("Stay at the peak after the warm-up; the only shape that needs no end."),
    cosine: z.strictObject({ steps, floor }).optional().describe("Half a cosine from the peak to the floor."),
    linear: z.strictObject({ steps, floor }).optional().describe("A straight line from the peak to the floor."),
    wsd: z
      .strictObject({ steps, decay: decaySchema.prefault({}).describe("How it ends.") })
      .optional()
      .describe("Warm-up, stable, decay: one decay at the end of `steps`."),
    wsd_s: z
      .strictObject({
        budgets: z
          .array(durationSchema)
          .min(1)
          .describe("Nominal budgets, increasing. Budget k is delivered at N_k = B_k + the decays before it."),
        decay: decaySchema.prefault({}).describe("How each budget ends."),
      })
      .optional()
      .describe("Several budgets in one run: each ends in a decay, then the rate jumps back to the peak."),
  })
  .superRefine(exactlyOne(scheduleShapes));

export type ScheduleSpec = z.output<typeof scheduleSchema>;
export type ScheduleSpecInput = z.input<typeof scheduleSchema>;
export type DecaySpec = z.output<typeof decaySchema>;
