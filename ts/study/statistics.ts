import { ThalwegError } from "../base/errors.ts";
import { normalCdf, overSpread, tQuantile, tTwoSided, tUpper } from "./distributions.ts";
import { mean, sum } from "./group.ts";

/** A mean with its interval; `sd` is that of the values, with n - 1 in the denominator. */
export interface Estimate {
  readonly n: number;
  readonly mean: number;
  readonly sd: number;
  /** Bounds of the 1 - alpha interval by Student's t; the mean itself when n = 1 tells nothing about the spread. */
  readonly low: number;
  readonly high: number;
}

export function estimate(values: readonly number[], alpha = 0.05): Estimate {
  const n = values.length;
  if (n === 0) throw new ThalwegError("BAD_INPUT", "an estimate needs at least one value.");
  const center = mean(values);
  if (n === 1) return { n, mean: center, sd: Number.NaN, low: center, high: center };
  const sd = Math.sqrt(sum(values.map((v) => (v - center) ** 2)) / (n - 1));
  const half = (tQuantile(1 - alpha / 2, n - 1) * sd) / Math.sqrt(n);
  return { n, mean: center, sd, low: center - half, high: center + half };
}

/** A paired comparison: the mean of a - b over pairs, and what follows from it. */
export interface PairedComparison extends Estimate {
  /** Student's t for "no difference"; infinite when all pairs differ by the same. */
  readonly t: number;
  /** Two-sided p for "no difference"; null for a single pair. */
  readonly p: number | null;
  /** p of two one-sided tests for "the difference is at least the margin"; null without a margin or for a single pair. */
  readonly pEquivalent: number | null;
}

/** Paired t-test, interval, and equivalence by two one-sided tests (Schuirmann 1987) when a margin is given. */
export function comparePairs(
  a: readonly number[],
  b: readonly number[],
  options: { alpha?: number; margin?: number | undefined } = {},
): PairedComparison {
  if (a.length !== b.length)
    throw new ThalwegError("BAD_INPUT", `a paired comparison of ${a.length} and ${b.length} values; expected pairs.`);
  const { alpha = 0.05, margin } = options;
  const difference = estimate(
    a.map((value, i) => value - b[i]!),
    alpha,
  );
  const { n, sd, mean: center } = difference;
  if (n === 1) return { ...difference, t: Number.NaN, p: null, pEquivalent: null };
  const error = sd / Math.sqrt(n);
  const ratio = (x: number) => (error > 0 ? x / error : x === 0 ? 0 : Math.sign(x) * Number.POSITIVE_INFINITY);
  const t = ratio(center);
  const upper = (value: number) => (Number.isFinite(value) ? tUpper(value, n - 1) : value > 0 ? 0 : 1);
  const p = Number.isFinite(t) ? tTwoSided(t, n - 1) : 0;
  const pEquivalent =
    margin === undefined ? null : Math.max(upper(ratio(center + margin)), upper(ratio(margin - center)));
  return { ...difference, t, p, pEquivalent };
}

/**
 * Holm's step-down adjustment (1979): p values that may be compared with alpha however many there are. The order of the
 * result is that of the input.
 */
export function holm(p: readonly number[]): number[] {
  const order = p.map((_, i) => i).sort((i, j) => p[i]! - p[j]!);
  const adjusted = new Array<number>(p.length);
  let running = 0;
  for (const [rank, i] of order.entries()) {
    running = Math.max(running, Math.min(1, (p.length - rank) * p[i]!));
    adjusted[i] = running;
  }
  return adjusted;
}

/** Chance that a two-sided paired t-test with n pairs finds a true mean difference, for a given sd of differences. */
export function pairedPower(difference: number, sd: number, n: number, alpha = 0.05): number {
  const df = n - 1;
  const critical = tQuantile(1 - alpha / 2, df);
  const shift = (difference * Math.sqrt(n)) / sd;
  return overSpread(df, (s) => normalCdf(shift - critical * s) + normalCdf(-shift - critical * s));
}

/** Chance that two one-sided tests with n pairs find equivalence within a margin, for a true difference (usually 0). */
export function equivalencePower(margin: number, sd: number, n: number, alpha = 0.05, difference = 0): number {
  const df = n - 1;
  const critical = tQuantile(1 - alpha, df);
  const error = sd / Math.sqrt(n);
  return overSpread(df, (s) => {
    const [low, high] = [(-margin - difference) / error + critical * s, (margin - difference) / error - critical * s];
    return high > low ? normalCdf(high) - normalCdf(low) : 0;
  });
}

/** Most seeds that the calculator considers. */
const mostSeeds = 1000;

/** The fewest pairs with at least the wanted power; null when a thousand are not enough. */
export function pairsNeeded(powerOf: (n: number) => number, power = 0.8): number | null {
  // Power grows with n: double until it suffices, then bisect.
  let high = 2;
  while (powerOf(high) < power) {
    if (high >= mostSeeds) return null;
    high = Math.min(mostSeeds, high * 2);
  }
  let low = 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (powerOf(middle) < power) low = middle;
    else high = middle;
  }
  return high;
}
