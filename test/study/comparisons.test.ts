import test from "ava";
import { studySchema } from "../../ts/config/study_schema.ts";
import { compareCells } from "../../ts/study/comparisons.ts";
import { checkMethod } from "../../ts/study/method.ts";
import type { StudyPlan } from "../../ts/study/plan.ts";
import { rowsOf } from "./support/rows.ts";

const planOf = (spec: object): StudyPlan =>
  ({
    spec: studySchema.parse({ name: "s", base: "b.yaml", ...spec }),
    runs: ["wsd", "cosine"].map((schedule) => ({ schedule, labels: {}, replicate: { seed: "1" }, control: false })),
    warnings: [],
  }) as unknown as StudyPlan;

test("cells are compared with the baseline pair by pair: a difference that every seed shows is found in the noise of seeds", (t) => {
  const rows = rowsOf({ schedules: { wsd: [1.5, 1.6, 1.7, 1.8, 1.9], cosine: [1.512, 1.611, 1.713, 1.81, 1.911] } });
  const { compared } = compareCells(planOf({}), rows);
  t.is(compared.length, 1);
  const [c] = compared;
  t.deepEqual([c!.a, c!.b, c!.n, c!.verdict], ["cosine", "wsd", 5, "higher"]);
  t.true(Math.abs(c!.mean - 0.0114) < 1e-9);
});

test("a pair without its other half, or that diverged, does not count", (t) => {
  const rows = rowsOf({ schedules: { wsd: [1.5, 1.6, 1.7], cosine: [1.51, null, 1.71] } });
  t.is(compareCells(planOf({}), rows).compared[0]!.n, 2);
});

test("deliverables that are the same weights by construction are left out", (t) => {
  const rows = rowsOf({ schedules: { wsd: [1.5, 1.6], cosine: [1.5, 1.6] }, sameState: true });
  const { compared, identical } = compareCells(planOf({}), rows);
  t.deepEqual([compared.length, identical.length], [0, 1]);
});

test("a comparison that two baselines ask for, from either side, is one test", (t) => {
  const rows = rowsOf({ schedules: { a: [1, 2, 3.1], b: [1.1, 2.3, 3], c: [1.2, 2.1, 3.3] } });
  const compare = ["a", "b"].map((baseline) => ({ of: "schedule", baseline }));
  const { compared, identical } = compareCells(planOf({ compare }), rows);
  t.deepEqual(
    compared.map((c) => `${c.a} - ${c.b}`),
    ["b - a", "c - a", "c - b"],
  );
  t.deepEqual(identical, []);
});

test("a comparison of the same weights under other names is made once", (t) => {
  const shared = (schedule: string, state: string, losses: number[]) =>
    rowsOf({ schedules: { [schedule]: losses } }).map((row, i) => ({ ...row, state: `${state}${i}` }));
  const rows = [
    ...shared("a", "x", [1, 2, 3.1]),
    ...shared("b", "x", [1, 2, 3.1]),
    ...shared("c", "y", [1.2, 2.1, 3.3]),
    ...shared("d", "y", [1.2, 2.1, 3.3]),
  ];
  const compare = ["a", "c"].map((baseline) => ({ of: "schedule", baseline }));
  const { compared, identical } = compareCells(planOf({ compare }), rows);
  t.deepEqual(
    compared.map((c) => `${c.a} - ${c.b}`),
    ["c - a"],
  );
  t.deepEqual(identical, [
    "b and a, budget 1",
    "d and a, budget 1 (as c and a, budget 1)",
    "b and c, budget 1 (as c and a, budget 1)",
    "d and c, budget 1",
  ]);
});

test("p values are adjusted over all comparisons of the study, and equivalence only counts with a declared margin", (t) => {
  const losses = { a: [1, 2, 3, 4], b: [1.001, 2.0, 3.001, 4.0], c: [1.001, 2.002, 3.001, 4.003] };
  const rows = rowsOf({ schedules: losses });
  const without = compareCells(planOf({ compare: [{ of: "schedule", baseline: "a" }] }), rows).compared;
  t.true(without.every((c) => c.pEquivalent === null && c.verdict !== "equivalent"));
  for (const c of without) t.true(c.pHolm! >= c.p!);
  t.is(Math.max(...without.map((c) => c.pHolm! / c.p!)), 2);
  const within = compareCells(planOf({ compare: [{ of: "schedule", baseline: "a" }], margin: 0.02 }), rows).compared;
  t.deepEqual(
    within.map((c) => c.verdict),
    ["equivalent", "equivalent"],
  );
});

test("an axis has its own baseline; everything else stays equal within a pair", (t) => {
  const rows = [0.1, 0.2].flatMap((fraction) =>
    rowsOf({ schedules: { wsd: [1 + fraction, 2 + fraction, 3 + fraction] }, labels: { fraction: String(fraction) } }),
  );
  const { compared } = compareCells(planOf({ compare: [{ of: "fraction", baseline: "0.1" }] }), rows);
  t.deepEqual(
    compared.map((c) => [c.of, c.a, c.b, Number(c.mean.toFixed(6))]),
    [["fraction", "0.2", "0.1", 0.1]],
  );
});

test("the rules of method: untuned peaks, few seeds, seeds of tuning and a missing margin are named", (t) => {
  const plan = planOf({ schedules: { wsd: { lr: { wsd: {} } }, cosine: { lr: { peak: "tuned", cosine: {} } } } });
  const findings = checkMethod(plan, null, rowsOf({ schedules: { wsd: [1] } }));
  const broken = findings.filter(({ ok }) => !ok).map(({ text }) => text);
  t.true(broken.some((text) => /not tuned for wsd:/.test(text)));
  t.true(broken.some((text) => /at least 5/.test(text)));
  t.true(broken.some((text) => /margin/.test(text)));
  const tuned = { version: 1, seeds: [1], budget: 10, steps: 1, peaks: {} } as const;
  t.true(checkMethod(plan, tuned, []).some(({ text }) => /Seeds 1 were used for tuning/.test(text)));
});

test("the rules of method: peaks that are the axis compared need no tuning, others beside them do", (t) => {
  const wsd = { lr: { peak: "$peak", wsd: {} } };
  const broken = (schedules: object, of: string) =>
    checkMethod(planOf({ schedules, compare: [{ of, baseline: "0.001" }] }), null, [])
      .filter(({ ok, text }) => !ok && /tuned/.test(text))
      .map(({ text }) => text);
  t.deepEqual(broken({ wsd }, "peak"), []);
  t.regex(broken({ wsd }, "fraction")[0]!, /not tuned for wsd:/);
  t.regex(broken({ wsd, cosine: { lr: { peak: 1e-3, cosine: {} } } }, "peak")[0]!, /not tuned for cosine:/);
});
