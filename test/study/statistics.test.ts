import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { normalCdf, tCdf, tQuantile, tTwoSided } from "../../ts/study/distributions.ts";
import { comparePairs, equivalencePower, estimate, holm, pairedPower, pairsNeeded } from "../../ts/study/statistics.ts";

interface Fixture {
  t: [t: number, df: number, cdf: number, twoSided: number][];
  quantile: [p: number, df: number, t: number][];
  normal: [z: number, cdf: number][];
  paired: Record<"margin" | "t" | "p" | "low" | "high" | "pEquivalent", number>[] & { a: number[]; b: number[] }[];
  power: [ratio: number, n: number, power: number][];
  equivalence: [ratio: number, n: number, power: number][];
}

/** scipy's values; tools/fixtures/statistics.py makes them. */
const expected = JSON.parse(
  readFileSync(join(import.meta.dirname, "../fixtures/study/statistics.json"), "utf8"),
) as Fixture;

/** Both libraries sum series to double precision: relative 1e-10, and 1e-15 absolute where a value underflows to nothing. */
function near(t: ExecutionContext, found: number, wanted: number, what: string, relative = 1e-10): void {
  t.true(Math.abs(found - wanted) <= relative * Math.abs(wanted) + 1e-15, `${what}: ${found}, expected ${wanted}`);
}

test("Student's t and the normal distribution agree with scipy, far tails included", (t) => {
  for (const [x, df, cdf, twoSided] of expected.t) {
    near(t, tCdf(x, df), cdf, `cdf ${x} ${df}`);
    near(t, tTwoSided(x, df), twoSided, `two-sided ${x} ${df}`);
  }
  for (const [p, df, value] of expected.quantile) near(t, tQuantile(p, df), value, `quantile ${p} ${df}`, 1e-9);
  for (const [z, cdf] of expected.normal) near(t, normalCdf(z), cdf, `normal ${z}`);
});

test("three seeds need |t| > 4.3 and five need 2.78", (t) => {
  t.is(tQuantile(0.975, 2).toFixed(3), "4.303");
  t.is(tQuantile(0.975, 4).toFixed(3), "2.776");
});

test("paired differences, intervals and equivalence agree with scipy", (t) => {
  for (const { a, b, margin, ...wanted } of expected.paired) {
    const found = comparePairs(a, b, { margin });
    for (const key of ["t", "p", "low", "high", "pEquivalent"] as const)
      near(t, found[key]!, wanted[key], `${key} of ${a.length} pairs`, 1e-8); // differences of nearly equal numbers
  }
});

test("a single pair has no test; pairs that all differ by the same are certain", (t) => {
  const one = comparePairs([1.5], [1.4], { margin: 0.2 });
  t.deepEqual([one.p, one.pEquivalent, one.n], [null, null, 1]);
  const same = comparePairs([1, 2, 3], [0.5, 1.5, 2.5], { margin: 1 });
  t.deepEqual([same.p, same.pEquivalent, same.low, same.high], [0, 0, 0.5, 0.5]);
  const equal = comparePairs([1, 2], [1, 2], { margin: 0.1 });
  t.deepEqual([equal.t, equal.p, equal.pEquivalent], [0, 1, 0]);
  t.throws(() => comparePairs([1], [1, 2]), { message: /expected pairs/ });
});

test("Holm's adjustment: the worked example of three p values, capped at 1, in the order given", (t) => {
  t.deepEqual(
    holm([0.01, 0.04, 0.03]).map((p) => Number(p.toFixed(12))),
    [0.03, 0.06, 0.06],
  );
  t.deepEqual(holm([0.6, 0.5]), [1, 1]);
  t.deepEqual(holm([]), []);
});

test("power of the paired test agrees with scipy's noncentral t, that of equivalence with its quadrature", (t) => {
  // Simpson's rule on 4000 intervals; equivalence has a kink inside an interval.
  for (const [ratio, n, power] of expected.power) near(t, pairedPower(ratio, 1, n), power, `power ${ratio} ${n}`, 1e-8);
  for (const [ratio, n, power] of expected.equivalence)
    near(t, equivalencePower(ratio, 1, n), power, `equivalence ${ratio} ${n}`, 1e-4);
});

test("the calculator gives the fewest seeds: one less has too little power", (t) => {
  const power = (n: number) => pairedPower(0.01, 0.006, n);
  const n = pairsNeeded(power)!;
  t.true(power(n) >= 0.8 && power(n - 1) < 0.8, `${n}`);
  t.is(
    pairsNeeded((n) => pairedPower(1e-9, 1, n)),
    null,
  );
});

test("an interval of one value says that the spread is not known", (t) => {
  const one = estimate([1.5]);
  t.deepEqual([one.n, one.low, one.high, Number.isNaN(one.sd)], [1, 1.5, 1.5, true]);
});
