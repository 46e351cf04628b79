import test from "ava";
import { studySchema } from "../../ts/config/study_schema.ts";
import { planStudy } from "../../ts/study/plan.ts";
import { secondsLeft } from "../../ts/study/speed.ts";

const decay = { fraction: 0.1 };
const four = {
  wsd: { lr: { wsd: { steps: "$budget", decay } } },
  "wsd-s": { lr: { wsd_s: { budgets: "$budgets", decay } } },
  cosine: { lr: { cosine: { steps: "$budget" } } },
  "cyclic-cosine": { lr: { cyclic_cosine: { ends: "$ends" } } },
};

const planOf = (spec: object) =>
  planStudy(studySchema.parse({ name: "s", base: "configs/quickstart.yaml", budgets: [1000, 2000, 4000], ...spec }));

test("four schedules, budgets 1:2:4 and three seeds: sharing saves 35% of runs from scratch and 8% of careful work by hand", async (t) => {
  const { sharing, segments, runs } = await planOf({ schedules: four, axes: { seed: [1, 2, 3] } });
  // From scratch: WSD and cosine 1000 + 2000 + 4000, WSD-S and cyclic cosine 1000 + 2100 + 4300, three seeds each.
  t.is(sharing.fromScratch, 3 * (2 * 7000 + 2 * 7400));
  t.is(
    sharing.steps,
    segments.reduce((sum, s) => sum + s.to - s.from, 0),
  );
  t.true(sharing.savedFromScratch >= 0.35, `${sharing.savedFromScratch}`);
  t.true(sharing.savedByHand >= 0.08, `${sharing.savedByHand}`);
  t.is(runs.length, 3 * (3 + 1 + 3 + 1));
});

test("budget 1 of WSD and WSD-S, and of cosine and cyclic cosine, are the same weights", async (t) => {
  const { runs } = await planOf({ schedules: four });
  const first = (name: string) => runs.find((run) => run.schedule === name)!.deliverables[0]!;
  t.is(first("wsd").state, first("wsd-s").state);
  t.is(first("cosine").state, first("cyclic-cosine").state);
  t.not(first("wsd").state, first("cosine").state);
});

test("the three meanings of compute: the path of the weights, all budgets so far, this one alone", async (t) => {
  const { runs } = await planOf({ schedules: four });
  const third = (name: string) =>
    runs
      .filter((run) => run.schedule === name)
      .at(-1)!
      .deliverables.at(-1)!.steps;
  t.deepEqual(third("wsd-s"), { path: 4300, cumulative: 4300, alone: 4300 });
  // A branch shares its first step with the trunk, which goes on at the peak: one step less than N_k for each branch.
  t.deepEqual(third("wsd"), { path: 4000, cumulative: 4298, alone: 4000 });
  // Three runs that share the warm-up and the first step at the peak.
  t.deepEqual(third("cosine"), { path: 4000, cumulative: 7000 - 2 * 31, alone: 4000 });
  t.deepEqual(third("cyclic-cosine"), { path: 4300, cumulative: 4300, alone: 4300 });
});

test("a comparison with what the study has not is warned of, with what it has", async (t) => {
  const compare = [
    { of: "schedule", baseline: "wsd" },
    { of: "schedule", baseline: "wsd3" },
    { of: "fraction", baseline: "0.1" },
  ];
  const { warnings } = await planOf({ schedules: { wsd: four.wsd, cosine: four.cosine }, compare });
  t.deepEqual(
    warnings.filter((message) => message.startsWith("compare")),
    [
      "compare[1] compares nothing with schedule wsd3: of its schedule there is wsd, cosine",
      "compare[2] compares nothing with fraction 0.1: the study has no axis of that name",
    ],
  );
});

test("the time left follows from speeds and what is missing; one unknown speed makes it unknown", async (t) => {
  const plan = await planOf({ schedules: { wsd: four.wsd } });
  const all = (id: string) => plan.segments.filter((s) => s.id === id).reduce((sum, s) => sum + s.to - s.from, 0);
  t.is(secondsLeft(plan, [1024], all, 1), plan.sharing.steps);
  t.is(secondsLeft(plan, [1024], all, 2), plan.sharing.steps / 2);
  t.is(secondsLeft(plan, [null], all, 1), null);
  t.is(
    secondsLeft(plan, [null], () => 0, 1),
    0,
  );
});
