import type { Schedule } from "../schedule/schedule.ts";
import type { Segment } from "../schedule/segment.ts";
import { csvText } from "./csv.ts";
import { shownSteps, valuesOf } from "./schedule_report.ts";

export const exportFormats = ["torch", "optax", "json", "csv"] as const;
export type ExportFormat = (typeof exportFormats)[number];

export interface ExportOptions {
  readonly name: string;
  /** Steps of the run; default the schedule's end. */
  readonly steps?: number | null;
}

/**
 * A schedule for use elsewhere: `torch` a Python module with a LambdaLR, `optax` one with a schedule function of optax, `json`
 * the segments with their curves, `csv` a row `step,lr` for each update. All have the values of `valueAt`, to rounding.
 */
export function exportSchedule(schedule: Schedule, format: ExportFormat, options: ExportOptions): string {
  if (format === "csv") {
    const values = valuesOf(schedule, shownSteps(schedule, options.steps));
    return csvText(
      ["step", "lr"],
      values.map((value, step) => [step, value]),
    );
  }
  if (format === "json") return `${JSON.stringify(jsonOf(schedule, options), null, 2)}\n`;
  return format === "torch" ? torchModule(schedule, options) : optaxModule(schedule, options);
}

function jsonOf({ hash, peak, end, budgets, segments, tokensPerStep }: Schedule, { name, steps }: ExportOptions) {
  return { version: 1, name, hash, peak, end: steps ?? end, tokensPerStep, budgets, segments };
}

/** Curves that run the same in both directions of time; the others are written falling, and mirrored to rise. */
const symmetric = ["linear", "inverse", "inverse_levanter", "inverse_sqrt", "exponential"];

/** Positions and formulas in Python; `m` has sqrt and cos, `low` and `high` are min and max. */
const formulas: Record<string, string> = {
  linear: "a + (b - a) * u",
  cosine: "b + (a - b) * (0.5 * (1 + m.cos(m.pi * u))) ** p",
  inverse: "a / ((a / b - 1) * u + 1)",
  inverse_levanter: "a / ((a / b - 1) * u + 1)",
  inverse_sqrt: "a / m.sqrt(((a / b) ** 2 - 1) * u + 1)",
  "1-sqrt": "b + (a - b) * (1 - m.sqrt(u))",
  "1-square": "b + (a - b) * (1 - u * u)",
  mirror_cosine: "b + (a - b) * (2 * (1 - u) - 0.5 * (1 + m.cos(m.pi * u)))",
  exponential: "a * (b / a) ** u",
  exponential_megatron: "b + (a - b) * (2 * 0.5 ** u - 1)",
  polynomial: "b + (a - b) * (1 - u) ** p",
};

/** A segment's value as a Python expression in `t`, the updates made since it began. */
function expression(segment: Segment): string {
  const { curve, start, end, from, to, skip = 0, power = 1, scale = 1 } = segment;
  const span = segment.span ?? (end ?? 0) - start;
  const ahead = skip === 0 ? "t" : `(t + ${skip})`;
  const within = end === null ? ahead : `low(${ahead}, ${end - start + skip})`;
  const [a, b] = [from, to];
  if (curve === "constant") return `${a} + 0 * t`;
  if (curve === "root_law") return `high(${b}, ${a} * low(1.0, m.sqrt(${scale} / high(${within}, 1))))`;
  if (curve === "root_law_above") return `${b} + (${a} - ${b}) * low(1.0, m.sqrt(${scale} / high(${within}, 1)))`;
  if (curve === "power_law") return `high(${b}, low(${a}, ${scale} * high(${within}, 1e-9) ** ${power}))`;
  if (curve === "half_life") return `high(${b}, ${a} * 0.5 ** (${within} / ${scale}))`;
  const first = curve === "inverse_levanter" ? 1 : 0;
  const u = `low(high(${ahead}, ${first}), ${Math.min(span, (end ?? 0) - start + skip)}) / ${span}`;
  const rising = to > from && !symmetric.includes(curve);
  const [x, y, at] = rising ? [b, a, `1 - ${u}`] : [a, b, u];
  return `curve(${JSON.stringify(curve)}, ${x}, ${y}, ${at}, ${power})`;
}

/** The curves that a schedule uses, as a Python function. */
function curveFunction(segments: readonly Segment[]): string[] {
  const used = [...new Set(segments.map((s) => s.curve))].filter((curve) => formulas[curve] !== undefined);
  if (used.length === 0) return [];
  return [
    "def curve(name, a, b, u, p):",
    '    """Position u of 0..1 on the way from a to b."""',
    ...used.map((curve) => `    if name == ${JSON.stringify(curve)}:\n        return ${formulas[curve]}`),
    "",
    "",
  ];
}

function header(schedule: Schedule, { name }: ExportOptions, use: string): string[] {
  const end = schedule.end === null ? "without end" : `${schedule.end} steps`;
  return [
    `"""Learning rate of ${JSON.stringify(name)}: ${end}, peak ${schedule.peak}, SHA-256 ${schedule.hash.slice(0, 16)}.`,
    "",
    `${use} The first update has the value at 0. Written by thalweg schedule export.`,
    '"""',
  ];
}

function torchModule(schedule: Schedule, options: ExportOptions): string {
  const { segments, peak } = schedule;
  const branches = segments.map((s, i) => {
    const condition = i === segments.length - 1 ? null : `step < ${segments[i + 1]!.start}`;
    const lines = [`        t = step - ${s.start}`, `        return ${expression(s)}`];
    if (condition === null) return lines.map((line) => line.slice(4)).join("\n");
    return [`    if ${condition}:`, ...lines].join("\n");
  });
  return [
    ...header(schedule, options, "lambda_lr(optimizer) makes a LambdaLR; give the optimizer lr=PEAK."),
    "import math as m",
    "",
    `PEAK = ${peak}`,
    "low, high = min, max",
    "",
    "",
    ...curveFunction(segments),
    "def lr_at(step):",
    '    """Learning rate of the update after `step` finished ones."""',
    ...branches,
    "",
    "",
    "def lambda_lr(optimizer, last_epoch=-1):",
    '    """The schedule for an optimizer of PyTorch whose lr is PEAK; step it once after each update."""',
    "    from torch.optim.lr_scheduler import LambdaLR",
    "",
    "    return LambdaLR(optimizer, lambda step: lr_at(step) / PEAK, last_epoch)",
    "",
  ].join("\n");
}

function optaxModule(schedule: Schedule, options: ExportOptions): string {
  const { segments } = schedule;
  const pieces = segments.map((s) => `        lambda t: ${expression(s)},`);
  const boundaries = segments.slice(1).map((s) => s.start);
  return [
    ...header(schedule, options, "schedule(count) is a schedule of optax: optax.adamw(learning_rate=schedule)."),
    "import jax.numpy as m",
    "import optax",
    "",
    "low, high = m.minimum, m.maximum",
    "",
    "",
    ...curveFunction(segments),
    "schedule = optax.join_schedules(",
    "    [",
    ...pieces,
    "    ],",
    `    boundaries=${JSON.stringify(boundaries)},`,
    ")",
    "",
  ].join("\n");
}
