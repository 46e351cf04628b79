import test from "ava";
import { scheduleSchema } from "../../ts/config/schedule_schema.ts";
import { planBudgets } from "../../ts/schedule/planner.ts";

const specOf = (wsd_s: object, warmup: number | string = 2000) => {
  const { peak, warmup: w, wsd_s: parsed } = scheduleSchema.parse({ peak: 6e-4, warmup, wsd_s });
  return { peak, warmup: w, wsd_s: parsed! };
};
const paper = planBudgets(specOf({ budgets: [12500, 25000, 50000] }));
const plan = (name: string) => paper.plans.find((p) => p.name === name)!;

test("for the paper's budgets WSD with branches and WSD-S cost the same, at every budget", (t) => {
  t.is(plan("wsd, branches").steps, 53750);
  t.is(plan("wsd-s").steps, 53750);
  const spent = (name: string) => plan(name).deliverables.map((d) => d.cumulative);
  t.deepEqual(spent("wsd, branches"), [12500, 26250, 53750]);
  t.deepEqual(spent("wsd-s"), spent("wsd, branches"));
});

test("a branch leaves the trunk where its decay begins, and has the trunk's values up to there", (t) => {
  const [trunk, ...branches] = plan("wsd, branches").paths;
  t.deepEqual(
    branches.map((b) => [b.from?.step, b.end]),
    [
      [11250, 12500],
      [22500, 25000],
      [45000, 50000],
    ],
  );
  t.is(trunk!.end, 45000);
  for (const { schedule, from } of branches)
    for (let step = 0; step < from!.step; step += 97) t.is(schedule.valueAt(step), trunk!.schedule.valueAt(step));
});

test("cosine pays for each budget from scratch, cyclic cosine once; at N they end where WSD-S does", (t) => {
  t.is(plan("cosine at B").steps, 87500);
  t.is(plan("cosine at N").steps, 12500 + 26250 + 53750);
  t.is(plan("cyclic cosine at B").steps, 50000);
  t.deepEqual(
    plan("cyclic cosine at N").deliverables.map((d) => d.step),
    [12500, 26250, 53750],
  );
});

test("checkpoints stand before and after each decay, once each", (t) => {
  const steps = (name: string) => plan(name).checkpoints.map((c) => c.step);
  t.deepEqual(steps("wsd-s"), [11250, 12500, 23750, 26250, 48750, 53750]);
  t.deepEqual(
    steps("wsd, branches").sort((a, b) => a - b),
    [11250, 12500, 22500, 25000, 45000, 50000],
  );
});

test("what does not fit one layout is said of that one, and the others stand", (t) => {
  const { plans, problems } = planBudgets(specOf({ budgets: [300, 310], decay: { steps: [10, 60] } }, 0));
  t.deepEqual(
    problems.map((p) => p.plan),
    ["wsd-s"],
  );
  t.regex(problems[0]!.message, /its decay \(60 steps\) would start at 260, before budgets\[0\] ends at 300/);
  t.deepEqual(
    plans[0]!.paths.map((p) => [p.name, p.from?.step ?? 0, p.end]),
    [
      ["trunk", 0, 290],
      ["branch 1", 290, 300],
      ["branch 2", 250, 310],
    ],
  );
  t.is(plans[0]!.steps, 360);
});

test("a warm-up said as a share is the same steps in every layout", (t) => {
  const { plans } = planBudgets(specOf({ budgets: [500, 1000], decay: { steps: [50, 50] } }, "10%"));
  for (const { paths } of plans) for (const { schedule } of paths) t.is(schedule.phases[0]!.end, 105);
});
