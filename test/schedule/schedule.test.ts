import test from "ava";
import fc from "fast-check";
import { ThalwegError } from "../../ts/base/errors.ts";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { realisedEqual } from "../../ts/schedule/compare.ts";
import { buildSchedule, runSteps, type Schedule } from "../../ts/schedule/schedule.ts";

const options = { tokensPerStep: 1024, totalSteps: 700 };

/** Specs of every shape that fit together; schedules end between step 100 and about 2,500. */
const specs: fc.Arbitrary<ScheduleSpecInput> = fc
  .record({
    shape: fc.constantFrom("constant" as const, "cosine" as const, "linear" as const, "wsd" as const, "wsd_s" as const),
    peak: fc.double({ min: 1e-6, max: 10, noNaN: true }),
    warmup: fc.integer({ min: 0, max: 40 }),
    gaps: fc.array(fc.integer({ min: 80, max: 400 }), { minLength: 1, maxLength: 4 }),
    decay: fc.record({
      fraction: fc.double({ min: 0.02, max: 0.4, noNaN: true }),
      of: fc.constantFrom("cumulative" as const, "cycle" as const),
      shape: fc.constantFrom("inverse" as const, "linear" as const),
      floor: fc.double({ min: 0.01, max: 1, noNaN: true }),
    }),
  })
  .map(({ shape, peak, warmup, gaps, decay }) => {
    const base = { peak, warmup };
    const budgets = gaps.map((_, k) => gaps.slice(0, k + 1).reduce((a, b) => a + b, 0));
    if (shape === "constant") return { ...base, constant: {} };
    if (shape === "wsd_s") return { ...base, wsd_s: { budgets, decay } };
    if (shape === "wsd") return { ...base, wsd: { steps: gaps[0]!, decay } };
    return { ...base, [shape]: { steps: gaps[0]!, floor: decay.floor } };
  });

const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 2 ** 31);
const property = (name: string, check: (schedule: Schedule, spec: ScheduleSpecInput) => void) =>
  test(name, (t) => {
    t.log(`seed ${seed}`);
    t.notThrows(() =>
      fc.assert(
        fc.property(specs, (spec) => check(buildSchedule(spec, options), spec)),
        { seed, numRuns: 200 },
      ),
    );
  });

function expect(condition: boolean, text: string): void {
  if (!condition) throw new Error(text);
}

property("values stay between 0 and the peak, and above the floor after the warm-up", (schedule, spec) => {
  const shape = spec.wsd_s ?? spec.wsd;
  const floor = spec.peak * (shape?.decay?.floor ?? spec.cosine?.floor ?? spec.linear?.floor ?? 1);
  for (let step = 0; step <= schedule.end! + 10; step++) {
    const value = schedule.valueAt(step);
    const least = schedule.phaseAt(step).kind === "warmup" ? 0 : floor;
    expect(value >= least && value <= spec.peak, `step ${step}: ${value} outside [${least}, ${spec.peak}]`);
  }
});

property("phases follow each other without gaps from 0 to the end, and phaseAt finds them", (schedule) => {
  let at = 0;
  for (const phase of schedule.phases) {
    expect(phase.start === at && phase.end! > phase.start, `phase ${JSON.stringify(phase)} does not start at ${at}`);
    for (const step of [phase.start, phase.end! - 1]) expect(schedule.phaseAt(step) === phase, `phaseAt(${step})`);
    at = phase.end!;
  }
  expect(at === schedule.end, `the last phase ends at ${at}, the schedule at ${schedule.end}`);
});

property("inside a phase values change in one direction, by small steps", (schedule, spec) => {
  for (const { kind, start, end } of schedule.phases) {
    const length = end! - start;
    // An inverse decay to the ratio r is steepest at its start, where one step takes (1/r - 1)/D of the peak off.
    const floor = spec.wsd_s?.decay?.floor ?? spec.wsd?.decay?.floor ?? 0.01;
    const largest = kind === "decay" ? (1 / floor - 1) / length : 2 / length;
    for (let step = start; step + 1 < end!; step++) {
      const change = schedule.valueAt(step + 1) - schedule.valueAt(step);
      expect(kind === "warmup" ? change > 0 : change <= 0, `${kind} step ${step}: changes by ${change}`);
      expect(Math.abs(change) <= spec.peak * (largest + 1e-12), `${kind} step ${step}: jumps by ${change}`);
    }
  }
});

property("a value depends on the step alone, not on what was asked before", (schedule, spec) => {
  const again = buildSchedule(spec, options);
  const forward = Array.from({ length: 60 }, (_, i) => schedule.valueAt(i * 17));
  const backward = Array.from({ length: 60 }, (_, i) => again.valueAt((59 - i) * 17)).reverse();
  expect(
    forward.every((value, i) => Object.is(value, backward[i])),
    "values differ between two orders of asking",
  );
});

property("the hash does not depend on the order of keys", (schedule, spec) => {
  const reversed = (value: unknown): unknown =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .reverse()
            .map(([key, field]) => [key, reversed(field)]),
        )
      : value;
  expect(buildSchedule(reversed(spec) as ScheduleSpecInput, options).hash === schedule.hash, "hash differs");
});

property("the hash tells two peaks apart", (schedule, spec) => {
  expect(buildSchedule({ ...spec, peak: spec.peak * 1.5 }, options).hash !== schedule.hash, "hash is the same");
});

const refused = (promise: string, spec: object, text: RegExp, more: object = {}) =>
  test(`refused: ${promise}`, (t) => {
    const error = t.throws(() => buildSchedule(spec as ScheduleSpecInput, more), { instanceOf: ThalwegError });
    t.is(error?.code, "BAD_CONFIG");
    t.regex(error?.message ?? "", text);
  });

refused(
  "a decay that would start before the budget before it ends",
  { peak: 1, wsd_s: { budgets: [300, 600], decay: { steps: [30, 400] } } },
  /schedule\.lr\.wsd_s\.budgets\[1\] is 600 steps, but its decay \(400 steps\) would start at 230, before budgets\[0\] ends at 300/,
);
refused(
  "a decay that would start before the run",
  { peak: 1, wsd_s: { budgets: [300, 4000], decay: { of: "total" } } },
  /budgets\[0\] is 300 steps, but its decay \(400 steps\) would start at -100, before the run begins/,
);
refused(
  "budgets that do not increase",
  { peak: 1, wsd_s: { budgets: [300, 300] } },
  /budgets\[1\] is 300 steps, not more than the budget before it/,
);
refused(
  "a budget as a share of the schedule it makes",
  { peak: 1, wsd_s: { budgets: [300, 0.5] } },
  /budgets\[1\] is 0.5, a share/,
);
refused(
  "a warm-up that reaches into the first decay",
  { peak: 1, warmup: 280, wsd_s: { budgets: [300] } },
  /warmup is 280 steps, but the first decay begins at step 270/,
);
refused(
  "a warm-up as long as the whole cosine",
  { peak: 1, warmup: 100, cosine: { steps: 100 } },
  /warmup is 100 steps/,
);
refused(
  "an inverse decay to 0, which divides by it",
  { peak: 1, wsd: { steps: 100, decay: { floor: 0 } } },
  /decay\.floor is 0; expected a ratio above 0, because an inverse decay to 0 divides/,
);
refused(
  "a decay that rounds to no step",
  { peak: 1, wsd: { steps: 4 } },
  /decay\.fraction gives budget 1 \(4 steps\) a decay of 0 steps/,
);
refused("WSD without a length", { peak: 1, wsd: {} }, /schedule\.lr\.wsd\.steps is missing/);
refused(
  "a warm-up as a share of a schedule without an end",
  { peak: 1, warmup: "10%", constant: {} },
  /warmup is a share of the schedule \(10%\), which has no end/,
);
refused(
  "tokens where the size of a step is not known",
  { peak: 1, wsd_s: { budgets: ["1M tokens"] } },
  /budgets\[0\] is 1M tokens, but how many tokens a step reads is not known/,
);
refused(
  "no shape",
  { peak: 1 },
  /schedule\.lr must have exactly one of constant, cosine, linear, wsd, wsd_s \(found none\)/,
);
refused("two shapes", { peak: 1, constant: {}, cosine: {} }, /\(found constant and cosine\)/);
refused(
  "a fraction and a number of steps at once",
  { peak: 1, wsd_s: { budgets: [300], decay: { fraction: 0.1, steps: 3 } } },
  /exactly one of fraction, steps/,
);
refused(
  "lengths of decays for other than the given budgets",
  { peak: 1, wsd_s: { budgets: [300, 600], decay: { steps: [30] } } },
  /decay\.steps has 1 lengths for 2 budgets/,
);

test("a warm-up as a share is a share of the whole schedule", (t) => {
  const schedule = buildSchedule({ peak: 1, warmup: 0.1, cosine: { steps: 500 } });
  t.deepEqual(schedule.phases[0], { kind: "warmup", start: 0, end: 50, cycle: 0 });
});

test("a constant schedule without a horizon has values at every step", (t) => {
  const schedule = buildSchedule({ peak: 2, warmup: 4, constant: {} }, { totalSteps: "open" });
  t.is(schedule.end, null);
  t.deepEqual(
    [0, 1, 4, 1e12].map((step) => schedule.valueAt(step)),
    [0, 0.5, 2, 2],
  );
});

test("a step that is not a whole number is refused", (t) => {
  const schedule = buildSchedule({ peak: 1, constant: {} });
  for (const step of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(() => schedule.valueAt(step), { instanceOf: RangeError });
});

test("a run takes the schedule's end, may stop earlier, and never goes on after it", (t) => {
  const wsd = buildSchedule({ peak: 1, wsd: { steps: 100 } });
  const open = buildSchedule({ peak: 1, constant: {} });
  t.is(runSteps(null, wsd), 100);
  t.is(runSteps(40, wsd), 40);
  t.is(runSteps("open", open), null);
  t.is(runSteps(40, open), 40);
  t.throws(() => runSteps(101, wsd), { message: /steps is 101, but the schedule ends at step 100/ });
  t.throws(() => runSteps("open", wsd), { message: /steps is open, but the schedule ends at step 100/ });
  t.throws(() => runSteps(null, open), { message: /a constant schedule has no end/ });
});

test("schedules are equal as far as they were played, and the first difference is told", (t) => {
  const short = buildSchedule({ peak: 1, warmup: 30, wsd_s: { budgets: [300, 600] } });
  const longer = buildSchedule({ peak: 1, warmup: 30, wsd_s: { budgets: [300, 600, 1200] } });
  t.not(short.hash, longer.hash);
  t.deepEqual(realisedEqual(short, longer, 630), { equal: true });
  const moved = buildSchedule({ peak: 1, warmup: 30, wsd_s: { budgets: [310, 600] } });
  t.deepEqual(realisedEqual(short, moved, 271), { equal: true });
  t.deepEqual(realisedEqual(short, moved, 300), { equal: false, step: 271, a: short.valueAt(271), b: 1 });
});
