import test from "ava";
import { buildSchedule } from "../../ts/schedule/schedule.ts";

/** Starts of every phase after the warm-up: what Levanter-style configs list as `haps`. */
function haps(spec: Parameters<typeof buildSchedule>[0]): { haps: number[]; end: number | null } {
  const schedule = buildSchedule(spec);
  const starts = schedule.phases.filter((phase) => phase.kind !== "warmup").map((phase) => phase.start);
  return { haps: starts.slice(1), end: schedule.end };
}

const warmup = 2000;
const near = (a: number, b: number, tolerance = 5e-5) => Math.abs(a - b) <= tolerance;

test("the paper's three budgets give its phase boundaries and end", (t) => {
  const spec = { peak: 6e-4, warmup, wsd_s: { budgets: [12500, 25000, 50000] } };
  t.deepEqual(haps(spec), { haps: [11250, 12500, 23750, 26250, 48750], end: 53750 });
  t.deepEqual(
    buildSchedule(spec).budgets.map((budget) => [budget.budget, budget.decayStart, budget.end]),
    [
      [12500, 11250, 12500],
      [25000, 23750, 26250],
      [50000, 48750, 53750],
    ],
  );
});

test("two budgets and the longer decays of the author's other runs give their boundaries", (t) => {
  const linear = { shape: "linear" as const };
  t.deepEqual(haps({ peak: 5e-4, warmup, wsd_s: { budgets: [12500, 25000], decay: linear } }), {
    haps: [11250, 12500, 23750],
    end: 26250,
  });
  const longer = { ...linear, steps: [1250, 5000, 15000] };
  t.deepEqual(haps({ peak: 4e-3, warmup, wsd_s: { budgets: [12500, 25000, 50000], decay: longer } }), {
    haps: [11250, 12500, 21250, 26250, 41250],
    end: 56250,
  });
});

test("budgets in tokens give the same schedule as in steps", (t) => {
  const inTokens = buildSchedule(
    {
      peak: 6e-4,
      warmup: "2000 steps",
      wsd_s: { budgets: ["52.4288B tokens", "104.8576B tokens", "209.7152B tokens"] },
    },
    { tokensPerStep: 1024 * 4096 },
  );
  t.is(inTokens.hash, buildSchedule({ peak: 6e-4, warmup, wsd_s: { budgets: [12500, 25000, 50000] } }).hash);
});

test("a fraction of the cycle or of the total gives other decays than of the cumulative budget", (t) => {
  const lengths = (of: "cumulative" | "cycle" | "total") =>
    buildSchedule({ peak: 1, wsd_s: { budgets: [12500, 25000, 50000], decay: { of } } }).budgets.map(
      (b) => b.end - b.decayStart,
    );
  t.deepEqual(lengths("cumulative"), [1250, 2500, 5000]);
  t.deepEqual(lengths("cycle"), [1250, 1375, 2638]); // cycles of 12,500, 13,750 and 26,375 steps
  t.deepEqual(lengths("total"), [5000, 5000, 5000]);
});

test("inverse decay gives the golden values", (t) => {
  const schedule = buildSchedule({ peak: 1, wsd: { steps: 1000, decay: { fraction: 0.1 } } });
  const at = (step: number) => schedule.valueAt(900 + step);
  t.is(at(-1), 1);
  t.is(at(0), 1);
  t.true(near(at(1), 0.9174));
  t.true(near(at(2), 0.8475));
  t.true(near(at(50), 0.1818));
  t.is(at(100), 0.1);
  t.is(at(5000), 0.1);
});

test("Levanter compatibility repeats the first value of the decay and changes nothing else", (t) => {
  const wsd = (compat?: "levanter") =>
    buildSchedule({ peak: 1, wsd: { steps: 1000 }, ...(compat === undefined ? {} : { compat }) });
  const [ours, theirs] = [wsd(), wsd("levanter")];
  t.is(theirs.valueAt(900), ours.valueAt(901));
  for (let step = 901; step <= 1000; step++) t.is(theirs.valueAt(step), ours.valueAt(step));
});

test("inverse decay is linear in 1/lr, and its mean is ln(10)/9 of the peak", (t) => {
  const schedule = buildSchedule({ peak: 3e-3, wsd: { steps: 10000, decay: { fraction: 0.5 } } });
  const inverse = (step: number) => 1 / schedule.valueAt(step);
  const slope = inverse(5001) - inverse(5000);
  let sum = 0;
  for (let step = 5000; step < 10000; step++) {
    // relative 1e-9: differences of reciprocals lose about six of the sixteen digits
    t.true(Math.abs(inverse(step + 1) - inverse(step) - slope) < 1e-9 * inverse(step));
    sum += schedule.valueAt(step) / 3e-3;
  }
  t.true(near(sum / 5000, Math.log(10) / 9, 2e-4)); // a left sum is high by half a step: (1 - 0.1) / 2 / 5000
});

test("warm-up starts at 0 and reaches the peak at its last step's successor", (t) => {
  const schedule = buildSchedule({ peak: 4e-3, warmup: 30, wsd_s: { budgets: [300, 600, 1200] } });
  t.is(schedule.valueAt(0), 0);
  t.true(near(schedule.valueAt(15), 2e-3, 1e-18));
  t.is(schedule.valueAt(30), 4e-3);
});

test("after each budget the rate jumps straight back to the peak", (t) => {
  const schedule = buildSchedule({ peak: 4e-3, warmup: 30, wsd_s: { budgets: [300, 600, 1200] } });
  t.deepEqual(
    schedule.budgets.map((budget) => budget.end),
    [300, 630, 1290],
  );
  for (const { decayStart, end } of schedule.budgets.slice(0, -1)) {
    t.is(schedule.valueAt(decayStart), 4e-3);
    t.true(schedule.valueAt(end - 1) < 0.12 * 4e-3);
    t.is(schedule.valueAt(end), 4e-3);
  }
  t.is(schedule.valueAt(1290), schedule.valueAt(99999));
});

test("cosine and linear end at their floor, half way down at the middle", (t) => {
  for (const shape of ["cosine", "linear"] as const) {
    const schedule = buildSchedule({ peak: 1, [shape]: { steps: 100, floor: 0.2 } });
    t.is(schedule.valueAt(0), 1);
    t.true(near(schedule.valueAt(50), 0.6, 1e-15));
    t.is(schedule.valueAt(100), 0.2);
  }
});

test("a linear decay may end at 0", (t) => {
  const schedule = buildSchedule({ peak: 1, wsd: { steps: 100, decay: { shape: "linear", floor: 0, steps: 10 } } });
  t.is(schedule.valueAt(100), 0);
  t.true(near(schedule.valueAt(99), 0.1, 1e-15));
});
