/** Student's t and the normal distribution, as far as paired comparisons need them. Relative errors about 1e-12. */

/** ln Gamma(x) for x > 0 (Lanczos, g = 7, n = 9). */
export function lnGamma(x: number): number {
  const coefficients = [
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - lnGamma(1 - x);
  let series = 0.99999999999980993;
  for (const [i, c] of coefficients.entries()) series += c / (x + i);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(series);
}

/** Value of the continued fraction b0 + a1/(b1 + a2/(b2 + ...)) by Lentz's method; `term(i)` gives [a_i, b_i], i >= 1. */
function continuedFraction(b0: number, term: (i: number) => readonly [number, number]): number {
  const tiny = 1e-300;
  let value = b0 || tiny;
  let c = value;
  let d = 0;
  for (let i = 1; i < 10_000; i++) {
    const [a, b] = term(i);
    d = 1 / (b + a * d || tiny);
    c = b + a / c || tiny;
    value *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return value;
}

/** Regularised incomplete beta function I_x(a, b) (continued fraction of DLMF 8.17.22). */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
  const fraction = continuedFraction(1, (i) => {
    const m = i >> 1;
    const numerator =
      i % 2 === 0
        ? (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
        : (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    return [numerator, 1];
  });
  return front / fraction;
}

/** P(T <= t) for Student's t with `df` degrees of freedom. */
export function tCdf(t: number, df: number): number {
  const tail = 0.5 * incompleteBeta(df / (df + t * t), df / 2, 0.5);
  return t > 0 ? 1 - tail : tail;
}

/** P(|T| >= |t|), without the cancellation of 1 - cdf. */
export const tTwoSided = (t: number, df: number): number => incompleteBeta(df / (df + t * t), df / 2, 0.5);

/** P(T >= t). */
export const tUpper = (t: number, df: number): number => tCdf(-t, df);

/** The t with P(T <= t) = p, 0 < p < 1. */
export function tQuantile(p: number, df: number): number {
  if (p === 0.5) return 0;
  if (p < 0.5) return -tQuantile(1 - p, df);
  const tail = 1 - p;
  let high = 1;
  while (tUpper(high, df) > tail) high *= 2;
  let low = 0;
  for (let i = 0; i < 200 && high - low > 1e-15 * high; i++) {
    const middle = (low + high) / 2;
    if (tUpper(middle, df) > tail) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(Z <= z) for the standard normal distribution. */
export function normalCdf(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const tail = 0.5 * erfc(x);
  return z > 0 ? 1 - tail : tail;
}

/** Complementary error function for x >= 0: a series below 2.5, a continued fraction above. */
function erfc(x: number): number {
  const scale = Math.exp(-x * x) / Math.sqrt(Math.PI);
  if (x > 2.5) return scale / continuedFraction(x, (i) => [i / 2, x]);
  let term = 2 * x;
  let series = term;
  for (let n = 1; term > 1e-17 * series; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    series += term;
  }
  return 1 - scale * series;
}

/**
 * Expectation of f(S) for S = sqrt(chi2_df / df), the spread of a sample of df + 1 as a multiple of the true one
 * (Simpson's rule; f must be smooth).
 */
export function overSpread(df: number, f: (s: number) => number): number {
  const intervals = 4000;
  const to = 1 + 14 / Math.sqrt(2 * df);
  const constant = Math.log(2) + (df / 2) * Math.log(df / 2) - lnGamma(df / 2);
  const density = (s: number) =>
    s === 0 ? (df === 1 ? Math.exp(constant) : 0) : Math.exp(constant + (df - 1) * Math.log(s) - (df * s * s) / 2);
  let total = 0;
  for (let i = 0; i <= intervals; i++) {
    const s = (to * i) / intervals;
    const weight = i === 0 || i === intervals ? 1 : i % 2 === 1 ? 4 : 2;
    total += weight * density(s) * f(s);
  }
  return (total * to) / intervals / 3;
}
