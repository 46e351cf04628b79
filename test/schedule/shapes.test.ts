import test from "ava";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { buildSchedule } from "../../ts/schedule/schedule.ts";

const near = (a: number, b: number, tolerance = 1e-6) => Math.abs(a - b) <= tolerance;

/** Ratios of the peak at 1/4, 1/2 and 3/4 of a decay to 0.1, from each formula by hand. */
const golden: Record<string, readonly [number, number, number]> = {
  linear: [0.775, 0.55, 0.325],
  cosine: [0.868198, 0.55, 0.231802],
  inverse: [0.307692, 0.181818, 0.129032],
  inverse_sqrt: [0.197066, 0.14072, 0.115278],
  "1-sqrt": [0.55, 0.363604, 0.220577],
  "1-square": [0.94375, 0.775, 0.49375],
  mirror_cosine: [0.681802, 0.55, 0.418198],
  exponential: [0.562341, 0.316228, 0.177828],
  exponential_megatron: [0.713614, 0.472792, 0.270286],
  polynomial: [0.60625, 0.325, 0.15625],
  lowered_linear: [0.55, 0.4, 0.25],
};

for (const [shape, values] of Object.entries(golden)) {
  test(`a decay of shape ${shape} has its golden values`, (t) => {
    const schedule = buildSchedule({ peak: 1, wsd: { steps: 500, decay: { steps: 400, shape: shape as "linear" } } });
    for (const [i, value] of values.entries()) t.true(near(schedule.valueAt(100 + 100 * (i + 1)), value), `${i}`);
    t.is(schedule.valueAt(100), shape === "lowered_linear" ? 0.7 : 1);
    t.true(near(schedule.valueAt(500), 0.1, 1e-15));
  });
  if (shape === "lowered_linear") continue;
  test(`a warm-up of shape ${shape} is that decay backwards in time`, (t) => {
    const warmup = { steps: 400, shape: shape as "linear", from: 0.1 };
    const schedule = buildSchedule({ peak: 1, warmup, constant: {} });
    for (const [i, value] of values.entries()) t.true(near(schedule.valueAt(400 - 100 * (i + 1)), value), `${i}`);
    t.true(near(schedule.valueAt(0), 0.1, 1e-15));
    t.is(schedule.valueAt(400), 1);
  });
}

test("a half-life decay halves each half-life and stops at its floor (MiniCPM)", (t) => {
  const decay = { steps: 100, shape: "half_life" as const, halfLife: 20, floor: 0.1 };
  const schedule = buildSchedule({ peak: 1, wsd: { steps: 300, decay } });
  t.true(near(schedule.valueAt(220), 0.5, 1e-15));
  t.true(near(schedule.valueAt(250), 0.176777));
  t.is(schedule.valueAt(275), 0.1);
});

test("means over the decay rank the shapes as published: inverse 0.256, exponential 0.391, 1-sqrt 0.40, linear and cosine 0.55", (t) => {
  const mean = (shape: "inverse" | "exponential" | "1-sqrt" | "linear" | "cosine") => {
    const schedule = buildSchedule({ peak: 1, wsd: { steps: 40000, decay: { steps: 20000, shape } } });
    let sum = 0;
    for (let step = 20000; step < 40000; step++) sum += schedule.valueAt(step);
    return sum / 20000;
  };
  // Integrals to the printed digits: ln(10)/9, 0.9/ln(10), 0.4, 0.55.
  const expected = { inverse: 0.25584, exponential: 0.39087, "1-sqrt": 0.4, linear: 0.55, cosine: 0.55 } as const;
  for (const [shape, value] of Object.entries(expected)) t.true(near(mean(shape as "linear"), value, 1e-4), shape);
});

test("floors may be absolute, warm-ups may begin at a value", (t) => {
  const schedule = buildSchedule({
    peak: 4e-3,
    warmup: { steps: 10, from: { value: 1e-3 } },
    cosine: { steps: 100, floor: { value: 2e-5 } },
  });
  t.is(schedule.valueAt(0), 1e-3);
  t.true(near(schedule.valueAt(5), 2.5e-3, 1e-17));
  t.is(schedule.valueAt(100), 2e-5);
});

const hash = (spec: ScheduleSpecInput, options = {}) => buildSchedule(spec, options).hash;

test("cycles of one length, their ends, and a list of ends are the same schedule", (t) => {
  const decay = { fraction: 0.1, of: "cycle" } as const;
  const byEnds = hash({ peak: 1, wsd_s: { ends: [200, 400, 600], decay } });
  t.is(hash({ peak: 1, wsd_s: { cycles: { length: 200, count: 3 }, decay } }), byEnds);
  t.is(hash({ peak: 1, wsd_s: { cycles: { length: 200 }, decay } }, { totalSteps: 600 }), byEnds);
  t.is(hash({ peak: 1, wsd_s: { cycles: { count: 3 }, decay } }, { totalSteps: 600 }), byEnds);
});

test("budgets by doubling are those budgets, and ends may be said instead of budgets", (t) => {
  const budgets = hash({ peak: 1, warmup: 2000, wsd_s: { budgets: [12500, 25000, 50000] } });
  t.is(hash({ peak: 1, warmup: 2000, wsd_s: { doubling: { last: 50000, count: 3 } } }), budgets);
  t.is(hash({ peak: 1, warmup: 2000, wsd_s: { ends: [12500, 26250, 53750] } }), budgets);
});

test("a cycle length that does not divide the run is refused, or the last cycle is shorter, or longer, as said", (t) => {
  const cyclic = (last?: "shorter" | "longer") =>
    buildSchedule(
      { peak: 1, cyclic_cosine: { cycles: { length: 300, ...(last ? { last } : {}) } } },
      { totalSteps: 1000 },
    );
  const ends = (last: "shorter" | "longer") => cyclic(last).budgets.map((b) => b.end);
  t.throws(() => cyclic(), {
    message: /cycles of 300 steps do not fill the run's 1000 steps\. Say last: shorter \(100 steps\)/,
  });
  t.deepEqual(ends("shorter"), [300, 600, 900, 1000]);
  t.deepEqual(ends("longer"), [300, 600, 1000]);
});

test("peaks may fall from cycle to cycle, as a list or as 1/sqrt of the budget", (t) => {
  const decay = { steps: 10, shape: "linear", floor: 0 } as const;
  const peaks = (given: number[] | "1/sqrt") => {
    const schedule = buildSchedule({ peak: 2, wsd_s: { ends: [100, 400], peaks: given, decay } });
    return [schedule.valueAt(50), schedule.valueAt(200)];
  };
  t.deepEqual(peaks([0.5, 0.25]), [1, 0.5]);
  t.deepEqual(peaks("1/sqrt"), [2, 1]);
});

test("a second warm-up begins where the cycle before it ended, or where it is told to", (t) => {
  const at = (from: "last" | 0) => {
    const rewarmup = { steps: 20, from };
    const schedule = buildSchedule({ peak: 1, cyclic_cosine: { ends: [100, 200], floor: 0.1, rewarmup } });
    return [100, 110, 120].map((step) => schedule.valueAt(step));
  };
  t.deepEqual(at("last"), [0.1, 0.55, 1]);
  t.deepEqual(at(0), [0, 0.5, 1]);
});

test("the power scheduler is min(peak, sequences a tokens^b), then decays from where it is", (t) => {
  const sizes = { tokensPerStep: 512 * 4096, sequencesPerStep: 512 };
  const schedule = buildSchedule({ peak: 0.02, warmup: 100, power: { steps: 10000, decay: { fraction: 0.1 } } }, sizes);
  const law = (step: number) => 512 * 4.6 * (step * sizes.tokensPerStep) ** -0.51;
  t.is(schedule.valueAt(200), 0.02);
  t.true(law(200) > 0.02 || near(schedule.valueAt(200), law(200), 1e-15));
  for (const step of [2000, 5000, 8999]) t.true(near(schedule.valueAt(step), Math.min(0.02, law(step)), 1e-15));
  t.true(near(schedule.valueAt(9000), Math.min(0.02, law(9000)), 1e-15));
  t.is(schedule.valueAt(10000), 0.002);
});

test("a table has its points, and what stands between them", (t) => {
  const points: [number, number][] = [
    [0, 0.2],
    [10, 1],
    [30, 0.5],
  ];
  const at = (interpolation: "linear" | "hold") => {
    const schedule = buildSchedule({ peak: 2, table: { points, interpolation } }, { totalSteps: 40 });
    return [0, 5, 10, 20, 30, 39].map((step) => Number(schedule.valueAt(step).toFixed(12)));
  };
  t.deepEqual(at("linear"), [0.4, 1.2, 2, 1.5, 1, 1]);
  t.deepEqual(at("hold"), [0.4, 0.4, 2, 2, 1, 1]);
});

test("phases follow one another, deliver where they say, and may show only the first part of a curve", (t) => {
  const phases = [
    { steps: 40 },
    { steps: 10, to: 0.2, deliver: true },
    { steps: 10, to: 1 },
    { steps: 20, of: 40, to: 0, shape: "cosine" as const },
  ];
  const schedule = buildSchedule({ peak: 1, warmup: 20, phases });
  t.deepEqual(
    [20, 60, 65, 70, 75, 80, 100].map((step) => Number(schedule.valueAt(step).toFixed(12))),
    [1, 1, 0.6, 0.2, 0.6, 1, 0.5],
  );
  t.deepEqual(schedule.budgets, [{ index: 0, budget: 70, decayStart: 60, end: 70 }]);
  t.is(schedule.end, 100);
});

test("durations in sequences and FLOPs are measured by what a step takes", (t) => {
  const sizes = { tokensPerStep: 1024, sequencesPerStep: 8, flopsPerStep: 2e12 };
  const spec = { peak: 1, warmup: "80 sequences", wsd_s: { budgets: ["6e14 FLOPs", "614.4K tokens"] } };
  t.is(hash(spec, sizes), hash({ peak: 1, warmup: 10, wsd_s: { budgets: [300, 600] } }));
});

test("counting from 1, the last update of a phase is at its end", (t) => {
  const schedule = buildSchedule({ peak: 1, warmup: 4, countFrom: 1, linear: { steps: 12, floor: 0 } });
  t.deepEqual(
    [0, 3, 4, 11].map((step) => schedule.valueAt(step)),
    [0.25, 1, 0.875, 0],
  );
});

test("`after: stay` keeps the last value for as long as the run lasts", (t) => {
  const schedule = buildSchedule({ peak: 1, after: "stay", wsd: { steps: 100 } });
  t.is(schedule.end, null);
  t.is(schedule.valueAt(5000), 0.1);
  t.is(schedule.phaseAt(5000).kind, "floor");
});

test("a scalar may follow the learning rate in proportion, the learning rate may not follow itself", (t) => {
  const lr = buildSchedule({ peak: 4e-3, warmup: 30, wsd_s: { budgets: [300, 600] } });
  const decay = buildSchedule({ peak: 0.1, follow_lr: {} }, { lr });
  for (const step of [0, 15, 200, 285, 299, 300, 620]) t.true(near(decay.valueAt(step), 25 * lr.valueAt(step), 1e-16));
  t.throws(() => buildSchedule({ peak: 1, follow_lr: {} }), { message: /cannot follow itself/ });
});
