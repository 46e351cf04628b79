/** What a stretch of steps does, as a person would name it. */
export type PhaseKind = "warmup" | "stable" | "decay" | "cosine" | "linear";

/** How a value moves from `from` to `to` over a segment. */
export type Curve = "constant" | "linear" | "cosine" | "inverse" | "inverse_levanter";

/**
 * Steps [start, end) on one curve; `end` is null when the run has no horizon. With t = step - start and D = end - start
 * the value is `from` at t = 0 and would be `to` at t = D, which is already the next segment's first step.
 */
export interface Segment {
  readonly kind: PhaseKind;
  readonly cycle: number;
  readonly curve: Curve;
  readonly start: number;
  readonly end: number | null;
  readonly from: number;
  readonly to: number;
}

/** The value of a segment at a step of it; at or after its end, `to`. */
export function segmentValue(segment: Segment, step: number): number {
  const { curve, start, end, from, to } = segment;
  if (curve === "constant" || end === null) return from;
  const t = step - start;
  const length = end - start;
  if (t <= 0) return curve === "inverse_levanter" ? curveValue("inverse", from, to, 1 / length) : from;
  if (t >= length) return to;
  return curveValue(curve, from, to, t / length);
}

/** Position u in (0, 1) along a curve, kept between its ends whatever the rounding. */
function curveValue(curve: Exclude<Curve, "constant">, from: number, to: number, u: number): number {
  let value: number;
  if (curve === "linear") value = from + (to - from) * u;
  else if (curve === "cosine") value = to + (from - to) * 0.5 * (1 + Math.cos(Math.PI * u));
  else value = from / ((from / to - 1) * u + 1);
  return Math.min(Math.max(value, Math.min(from, to)), Math.max(from, to));
}
