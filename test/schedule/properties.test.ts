import test from "ava";
import fc from "fast-check";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { buildSchedule, type Schedule } from "../../ts/schedule/schedule.ts";
import { type Segment, segmentValue } from "../../ts/schedule/segment.ts";
import { options, presets, specs } from "./specs.ts";

const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 2 ** 31);
const last = (schedule: Schedule): number => schedule.end ?? schedule.segments.at(-1)!.start + 50;

const property = (name: string, check: (schedule: Schedule, spec: ScheduleSpecInput, at: number) => void) =>
  test(name, (t) => {
    t.log(`seed ${seed}`);
    const place = fc.double({ min: 0, max: 1, noNaN: true });
    const each = fc.property(specs, place, ({ spec }, where) => {
      const schedule = buildSchedule(spec, options);
      check(schedule, spec, Math.floor(where * last(schedule)));
    });
    t.notThrows(() => fc.assert(each, { seed, numRuns: 300, includeErrorInReport: true }));
  });

function expect(condition: boolean, text: string): void {
  if (!condition) throw new Error(text);
}

test("every preset builds, and is drawn by these properties", (t) => {
  for (const [name, preset] of Object.entries(presets))
    for (const spec of fc.sample(preset, { seed, numRuns: 20 }))
      t.notThrows(() => buildSchedule({ peak: 1, ...spec }, options), name);
});

property("values stay between 0 and the peak, and within the ends of their phase", (schedule, spec) => {
  for (let step = 0; step <= last(schedule) + 10; step++) {
    const value = schedule.valueAt(step);
    expect(value >= 0 && value <= spec.peak, `step ${step}: ${value} outside [0, ${spec.peak}]`);
    const { from, to } = schedule.segments.findLast((s) => s.start <= step)!;
    const inside = value >= Math.min(from, to) && value <= Math.max(from, to);
    expect(inside, `step ${step}: ${value} outside [${from}, ${to}]`);
  }
});

property("phases follow each other without gaps from 0 to the end, and phaseAt finds them", (schedule) => {
  let at = 0;
  for (const phase of schedule.phases) {
    expect(phase.start === at, `phase ${JSON.stringify(phase)} does not start at ${at}`);
    expect(phase.end === null || phase.end > phase.start, `phase ${JSON.stringify(phase)} has no steps`);
    for (const step of [phase.start, (phase.end ?? phase.start + 9) - 1])
      expect(schedule.phaseAt(step) === phase, `phaseAt(${step})`);
    at = phase.end!;
  }
  expect((at ?? null) === schedule.end, `the last phase ends at ${at}, the schedule at ${schedule.end}`);
});

/** Largest change of one update, as a share of the way, on a curve of D steps between levels of a ratio. */
function steepest({ curve, from, to, power = 1 }: Segment, length: number): number {
  if (from === to) return 0;
  const ratio = Math.max(from, to) / Math.max(Math.min(from, to), 1e-300);
  const way = Math.abs(from - to) / Math.max(from, to);
  if (curve === "1-sqrt") return Math.sqrt(1 / length);
  if (curve === "inverse" || curve === "inverse_levanter") return (ratio - 1) / length / way;
  if (curve === "inverse_sqrt") return (ratio ** 2 - 1) / 2 / length / way;
  if (curve === "exponential") return Math.log(ratio) / length / way;
  if (curve === "polynomial") return power < 1 ? (1 / length) ** power : power / length;
  return (2 * power) / length;
}

property("inside a phase values change in one direction, by steps as small as its curve promises", (schedule) => {
  for (const segment of schedule.segments) {
    const { start, end, from, to, curve } = segment;
    if (end === null || ["half_life", "root_law", "power_law"].includes(curve)) continue;
    const most = steepest(segment, end - start) * Math.abs(from - to) + 1e-12 * Math.max(from, to);
    for (let step = start; step + 1 < end; step++) {
      const change = schedule.valueAt(step + 1) - schedule.valueAt(step);
      expect(Math.sign(to - from) * change >= 0, `${curve} step ${step}: changes by ${change}`);
      expect(Math.abs(change) <= most, `${curve} step ${step}: jumps by ${change}, at most ${most}`);
    }
  }
});

property(
  "phases meet where no jump is promised: only cycles jump up, only lowered decays jump down",
  (schedule, spec) => {
    const lowered = JSON.stringify(spec).includes("lowered_linear");
    const cut = spec.table?.interpolation === "hold";
    for (const [i, segment] of schedule.segments.entries()) {
      const before = schedule.segments[i - 1];
      if (before === undefined || before.cycle !== segment.cycle || cut) continue;
      if (lowered && segment.kind === "decay") continue;
      const arrived = segmentValue(before, before.end!);
      const near = Math.abs(arrived - segment.from) <= 1e-9 * spec.peak;
      // Laws of the step have their `from` as a ceiling, not as their first value.
      const law = segment.curve.includes("law") || before.curve.includes("law");
      expect(near || law, `phase ${i} begins at ${segment.from}, the one before it leads to ${arrived}`);
    }
  },
);

property("a value depends on the step alone, not on what was asked before", (schedule, spec) => {
  const again = buildSchedule(spec, options);
  const forward = Array.from({ length: 60 }, (_, i) => schedule.valueAt(i * 17));
  const backward = Array.from({ length: 60 }, (_, i) => again.valueAt((59 - i) * 17)).reverse();
  expect(
    forward.every((value, i) => Object.is(value, backward[i])),
    "values differ between two orders of asking",
  );
});

property(
  "a run resumed at any step sees the values of an uninterrupted one: from its spec and from its canonical text",
  (schedule, spec, at) => {
    const resumed = buildSchedule(JSON.parse(JSON.stringify(spec)), options);
    const { segments } = JSON.parse(schedule.canonical) as { segments: Segment[] };
    expect(resumed.hash === schedule.hash, "hash differs");
    for (let step = at; step < at + 40; step++) {
      expect(Object.is(resumed.valueAt(step), schedule.valueAt(step)), `step ${step} from the spec`);
      const kept = segmentValue(segments.findLast((s) => s.start <= step)!, step);
      expect(Object.is(kept, schedule.valueAt(step)), `step ${step} from the canonical text`);
    }
  },
);

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

const decayNow = { shape: "linear" as const, floor: { value: 0 } };

property(
  "a decay that cuts in changes nothing before it and falls from the value there to its floor",
  (schedule, spec, at) => {
    const cut = buildSchedule({ ...spec, interruptions: [{ at, steps: 25, ...decayNow }] }, options);
    for (let step = 0; step < at; step++)
      expect(Object.is(cut.valueAt(step), schedule.valueAt(step)), `step ${step} changed`);
    const start = schedule.valueAt(at);
    expect(
      spec.countFrom === 1 || Object.is(cut.valueAt(at), start),
      "the decay does not begin where the schedule was",
    );
    expect(cut.valueAt(at + 25) === 0, "the floor is not reached");
    for (let step = at; step < at + 25; step++)
      expect(cut.valueAt(step + 1) <= cut.valueAt(step), `step ${step} rises`);
    expect(cut.end === at + 25, `it ends at ${cut.end}`);
    const delivered = cut.budgets.at(-1)!;
    expect(delivered.decayStart === at && delivered.end === at + 25, "no budget is delivered");
  },
);

property("what a decay interrupted goes on after it with the same values, as much later", (schedule, spec, at) => {
  const cut = buildSchedule({ ...spec, interruptions: [{ at, steps: 25, ...decayNow, next: "go_on" }] }, options);
  for (let step = at; step < last(schedule); step++)
    expect(Object.is(cut.valueAt(step + 25), schedule.valueAt(step)), `step ${step}: ${cut.valueAt(step + 25)}`);
  expect(schedule.end === null || cut.end === schedule.end + 25, `it ends at ${cut.end}`);
});
