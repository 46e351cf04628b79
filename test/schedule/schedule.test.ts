import test from "ava";
import { ThalwegError } from "../../ts/base/errors.ts";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { realisedEqual } from "../../ts/schedule/compare.ts";
import { buildSchedule, runSteps } from "../../ts/schedule/schedule.ts";

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
  /schedule\.lr must have exactly one of constant, cosine, linear, wsd, wsd_s, .*\(found none\)/,
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
  t.throws(() => runSteps(null, open), { message: /the schedule has no end/ });
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
