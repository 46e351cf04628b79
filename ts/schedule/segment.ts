import { type Curve, curveValue } from "./curves.ts";

export type { Curve } from "./curves.ts";

/** What a stretch of steps does, as a person would name it. */
export type PhaseKind =
  | "warmup"
  | "rewarmup"
  | "stable"
  | "decay"
  | "cosine"
  | "linear"
  | "inverse_sqrt"
  | "power"
  | "range"
  | "table"
  | "floor";

/**
 * Steps [start, end) on one curve; `end` is null when the run has no horizon. With t = step - start + skip and D = span the
 * value is `from` at t = 0 and would be `to` at t = D; with neither skip nor span that is already the next segment's first
 * step. Laws of the step: root_law max(to, from min(1, sqrt(scale / t))), root_law_above to + (from - to) min(1,
 * sqrt(scale / t)), power_law max(to, min(from, scale t^power)), half_life max(to, from 2^(-t / scale)).
 */
export interface Segment {
  readonly kind: PhaseKind;
  readonly cycle: number;
  readonly curve: Curve;
  readonly start: number;
  readonly end: number | null;
  readonly from: number;
  readonly to: number;
  /** Steps that the curve is ahead at the segment's first step. Default 0. */
  readonly skip?: number | undefined;
  /** Steps of the whole curve. Default: those of the segment. */
  readonly span?: number | undefined;
  /** Exponent of the curves that have one. */
  readonly power?: number | undefined;
  /** Timescale of the laws, in steps. */
  readonly scale?: number | undefined;
}

/** The value of a segment at a step of it; at or after its end, the value it led to. */
export function segmentValue(segment: Segment, step: number): number {
  const { curve, start, end, from, to, skip = 0, power = 1, scale = 1 } = segment;
  if (curve === "constant") return from;
  const t = (end === null ? step : Math.min(step, end)) - start + skip;
  if (curve === "root_law") return Math.max(to, from * Math.min(1, Math.sqrt(scale / Math.max(t, 1))));
  if (curve === "root_law_above") return to + (from - to) * Math.min(1, Math.sqrt(scale / Math.max(t, 1)));
  if (curve === "power_law") return Math.max(to, t <= 0 ? from : Math.min(from, scale * t ** power));
  if (curve === "half_life") return Math.max(to, from * 0.5 ** (t / scale));
  const span = segment.span ?? end! - start;
  if (t <= 0) return curve === "inverse_levanter" ? curveValue("inverse", from, to, 1 / span, power) : from;
  return t >= span ? to : curveValue(curve, from, to, t / span, power);
}

/** Curves that no end shapes: a part of one needs no span. */
const laws = ["constant", "half_life", "root_law", "root_law_above", "power_law"];

/** What a segment does before step `at`, as a segment that ends there. */
export function headOf(segment: Segment, at: number): Segment {
  const span = laws.includes(segment.curve) ? segment.span : (segment.span ?? segment.end! - segment.start);
  return segment.end !== null && segment.end <= at ? segment : { ...segment, end: at, span };
}

/** What a segment does from step `at` on, `later` steps later. */
export function tailOf(segment: Segment, at: number, later: number): Segment {
  const passed = Math.max(0, at - segment.start);
  const span =
    laws.includes(segment.curve) || passed === 0 ? segment.span : (segment.span ?? segment.end! - segment.start);
  const skip = passed === 0 ? segment.skip : (segment.skip ?? 0) + passed;
  const end = segment.end === null ? null : segment.end + later;
  return { ...segment, start: Math.max(segment.start, at) + later, end, skip, span };
}
