import { z } from "zod";
import { durationSchema } from "./quantities.ts";

/** Adds the rule that of some keys exactly one is present; the message names what was found. */
export function exactlyOne<Keys extends string>(keys: readonly Keys[]) {
  return (value: Partial<Record<Keys, unknown>>, context: z.RefinementCtx): void => {
    const found = keys.filter((key) => value[key] !== undefined);
    if (found.length === 1) return;
    context.addIssue({
      code: "custom",
      message: `exactly one of ${keys.join(", ")} (found ${found.length === 0 ? "none" : found.join(" and ")})`,
    });
  };
}

const levelText = "a ratio of the peak from 0 to 1, or {value: ..}";

/** A level of the scalar: a ratio of the peak, or an absolute value. */
export const levelSchema = z.union(
  [z.number().min(0).max(1), z.strictObject({ value: z.number().nonnegative() })],
  levelText,
);
export type Level = z.output<typeof levelSchema>;

export const floor = levelSchema
  .default(0.1)
  .describe("The lowest value, reached at the end: a ratio of the peak, or {value: 1e-5}.");

/** Ways down from one level to another; upwards, the same curves run backwards in time. */
export const curveShapes = [
  "inverse",
  "linear",
  "cosine",
  "1-sqrt",
  "1-square",
  "mirror_cosine",
  "exponential",
  "exponential_megatron",
  "polynomial",
  "inverse_sqrt",
] as const;
export const decayShapes = [...curveShapes, "lowered_linear", "half_life"] as const;
export const decayBases = ["cumulative", "cycle", "total"] as const;

const power = z
  .number()
  .positive()
  .optional()
  .describe("Exponent of a polynomial (default 2) or of a cosine (default 1).");

/** Shape of a decay and where it ends. */
export const descentFields = {
  shape: z
    .enum(decayShapes)
    .default("inverse")
    .describe("How it falls. inverse: 1/lr grows linearly (the paper's decay); docs/schedules.md has every formula."),
  floor,
  power,
  lowered: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe("Ratio of the peak at which a lowered_linear decay begins. Default 0.7."),
  halfLife: durationSchema.optional().describe("Steps in which a half_life decay halves the value; needed there."),
};

const dividing = ["inverse", "inverse_sqrt", "exponential"] as const;
const isZero = (level: Level): boolean => (typeof level === "number" ? level : level.value) === 0;

interface DescentLike {
  shape: (typeof decayShapes)[number];
  floor: Level;
  power?: number | undefined;
  lowered?: number | undefined;
  halfLife?: unknown;
}

/** Rules between the fields of a descent. */
export function checkDescent(decay: DescentLike, context: z.RefinementCtx): void {
  const { shape } = decay;
  const complain = (field: string, message: string) => context.addIssue({ code: "custom", path: [field], message });
  if (dividing.some((name) => name === shape) && isZero(decay.floor))
    complain(
      "floor",
      `a ratio above 0, because an ${shape} decay to 0 divides by zero; use shape: linear to decay to 0`,
    );
  if (decay.power !== undefined && shape !== "polynomial" && shape !== "cosine")
    complain("power", `no power with shape ${shape}: it is for polynomial and cosine`);
  if (decay.lowered !== undefined && shape !== "lowered_linear")
    complain("lowered", `no start with shape ${shape}: it is for lowered_linear`);
  if ((shape === "half_life") !== (decay.halfLife !== undefined))
    complain("halfLife", shape === "half_life" ? "a duration, with shape half_life" : "nothing: only for half_life");
}

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
    ...descentFields,
  })
  .superRefine((decay, context) => {
    if (decay.fraction !== undefined && decay.steps !== undefined) exactlyOne(["fraction", "steps"])(decay, context);
    checkDescent(decay, context);
  });
export type DecaySpec = z.output<typeof decaySchema>;

const warmupFields = z.strictObject({
  steps: durationSchema.describe("Length."),
  shape: z
    .enum([...curveShapes, "constant"])
    .default("linear")
    .describe("How it rises: a decay's curve backwards in time, or constant at `from`."),
  from: levelSchema.default(0).describe("Value of the first update: a ratio of the peak, or {value: 1e-6}."),
  power,
});

/** A warm-up: its length, or its length, shape and start. */
export const warmupSchema = z
  .union([durationSchema, warmupFields], "a duration, or a mapping with steps and perhaps shape, from, power")
  .superRefine((warmup, context) => {
    if (typeof warmup !== "object" || !isZero(warmup.from)) return;
    if (!dividing.some((shape) => shape === warmup.shape)) return;
    const message = `a level above 0, because an ${warmup.shape} warm-up from 0 divides by zero`;
    context.addIssue({ code: "custom", path: ["from"], message });
  });
export type WarmupSpec = z.output<typeof warmupSchema>;

/** A second warm-up, at the start of each later cycle. */
export const rewarmupSchema = z.strictObject({
  steps: durationSchema.describe("Length, counted inside the cycle."),
  shape: z.enum(curveShapes).default("linear").describe("How it rises."),
  from: z
    .union([z.literal("last"), levelSchema], `"last" or ${levelText}`)
    .default("last")
    .describe("Where it begins: at the last cycle's end (last), at a ratio of the peak, or at {value: 0}."),
});

/** A decay that cuts into whatever the schedule does, from the value it has there: `thalweg decay` writes these. */
export const interruptionSchema = z
  .strictObject({
    at: z.int().nonnegative().describe("Finished updates when it begins."),
    steps: z.int().positive().describe("Length in steps."),
    ...descentFields,
    next: z
      .enum(["stop", "go_on"])
      .default("stop")
      .describe("stop: the schedule ends with it; go_on: what was interrupted goes on after it, as much later."),
  })
  .superRefine(checkDescent);
export type Interruption = z.output<typeof interruptionSchema>;

/** What `thalweg decay` asks for: a decay from wherever a run is. At most one way to say how long; default a tenth so far. */
export const decayRequestSchema = z
  .strictObject({
    steps: z.int().positive().optional().describe("Length in steps."),
    tokens: z.number().positive().optional().describe("Length in tokens."),
    hours: z.number().positive().optional().describe("Length in hours at the speed measured so far."),
    until: z.iso
      .datetime({ offset: true, local: true, error: "a date and time such as 2026-11-22T18:00" })
      .optional()
      .describe("Time by which it must be over."),
    ...descentFields,
    next: z.enum(["stop", "go_on"]).default("stop").describe("After it: stop, or go on with what was interrupted."),
  })
  .superRefine((request, context) => {
    checkDescent(request, context);
    const ways = (["steps", "tokens", "hours", "until"] as const).filter((way) => request[way] !== undefined);
    if (ways.length > 1) exactlyOne(["steps", "tokens", "hours", "until"])(request, context);
  });
export type DecayRequest = z.output<typeof decayRequestSchema>;
