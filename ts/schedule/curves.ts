/** How a value moves from one level to another. The last two are laws of the step that need no end. */
export const curves = [
  "constant",
  "linear",
  "cosine",
  "inverse",
  "inverse_levanter",
  "inverse_sqrt",
  "1-sqrt",
  "1-square",
  "mirror_cosine",
  "exponential",
  "exponential_megatron",
  "polynomial",
  "half_life",
  "root_law",
  "root_law_above",
  "power_law",
] as const;
export type Curve = (typeof curves)[number];

/** Curves between two levels; `root_law` and the like are functions of the step, see segment.ts. */
export type LevelCurve = Exclude<Curve, "constant" | "half_life" | "root_law" | "root_law_above" | "power_law">;

/**
 * Position u in (0, 1) on a curve, kept between its ends whatever the rounding. Written for falling curves; a rising one is
 * the falling one backwards in time: rise(u) from a to b = fall(1 - u) from b to a.
 */
export function curveValue(curve: LevelCurve, from: number, to: number, u: number, power: number): number {
  const value =
    symmetric(curve, from, to, u, power) ??
    (to > from ? fall(curve, to, from, 1 - u, power) : fall(curve, from, to, u, power));
  return Math.min(Math.max(value, Math.min(from, to)), Math.max(from, to));
}

/** Curves that are their own mirror image in time. */
function symmetric(curve: LevelCurve, from: number, to: number, u: number, power: number): number | null {
  if (curve === "linear") return from + (to - from) * u;
  if (curve === "cosine" && power === 1) return to + (from - to) * 0.5 * (1 + Math.cos(Math.PI * u));
  if (curve === "inverse" || curve === "inverse_levanter") return from / ((from / to - 1) * u + 1);
  if (curve === "inverse_sqrt") return from / Math.sqrt(((from / to) ** 2 - 1) * u + 1);
  if (curve === "exponential") return from * (to / from) ** u;
  return null;
}

/** What is left of the way down, 1 at u = 0 and 0 at u = 1, for the others. */
function fall(curve: LevelCurve, from: number, to: number, u: number, power: number): number {
  const cosine = 0.5 * (1 + Math.cos(Math.PI * u));
  const left: Partial<Record<LevelCurve, () => number>> = {
    cosine: () => cosine ** power,
    "1-sqrt": () => 1 - Math.sqrt(u),
    "1-square": () => 1 - u * u,
    mirror_cosine: () => 2 * (1 - u) - cosine,
    exponential_megatron: () => 2 * 0.5 ** u - 1,
    polynomial: () => (1 - u) ** power,
  };
  return to + (from - to) * left[curve]!();
}
