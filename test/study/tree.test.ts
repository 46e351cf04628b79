import test from "ava";
import fc from "fast-check";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import type { StudyRun } from "../../ts/study/expand.ts";
import { buildTree, type SegmentTree, unionSteps } from "../../ts/study/tree.ts";
import { smallConfig } from "../train/support/states.ts";

const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 1e6);

/** A run of given values; where it wants weights are its marks. */
function runOf(values: readonly number[], marks: readonly number[] = []): StudyRun {
  const plan = { ...buildSchedule({ peak: 1, constant: {} }), valueAt: (step: number) => values[step]! };
  const all = [...new Set([...marks, values.length])].filter((m) => m <= values.length).sort((a, b) => a - b);
  return {
    schedule: "s",
    labels: {},
    replicate: {},
    control: false,
    config: smallConfig(),
    plan,
    end: values.length,
    deliverables: [{ budget: 0, nominal: values.length, step: values.length }],
    marks: all,
  };
}

const treeOf = (runs: readonly StudyRun[], identity: unknown = 1): SegmentTree =>
  buildTree(runs.map((run) => ({ run, identity })));

/** Runs over two values, so that beginnings often agree. */
const randomRuns = fc.array(
  fc
    .tuple(
      fc.array(fc.constantFrom(1, 2), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 2 }),
    )
    .map(([values, marks]) => runOf(values, marks)),
  { minLength: 1, maxLength: 6 },
);

const prefix = (run: StudyRun, step: number): string =>
  Array.from({ length: step }, (_, i) => run.plan.valueAt(i)).join("");

test("a tree trains each different beginning once, and no step twice", (t) => {
  t.log(`seed ${seed}`);
  fc.assert(
    fc.property(randomRuns, (runs) => {
      const { segments } = treeOf(runs);
      // A step is known by the values up to it: the union over all runs is what must be trained.
      const wanted = new Set(runs.flatMap((run) => Array.from({ length: run.end }, (_, i) => prefix(run, i + 1))));
      const trained = segments.reduce((sum, s) => sum + s.to - s.from, 0);
      return trained === wanted.size;
    }),
    { seed },
  );
  t.pass();
});

test("a run's segments lead from step 0 to its end without gaps, with an end at each of its marks", (t) => {
  fc.assert(
    fc.property(randomRuns, (runs) => {
      const tree = treeOf(runs);
      const byId = new Map(tree.segments.map((s) => [s.id, s]));
      for (const [i, run] of runs.entries()) {
        const way = tree.paths[i]!.map((id) => byId.get(id)!);
        let step = 0;
        let parent: string | null = null;
        for (const segment of way) {
          if (segment.from !== step || segment.parent !== parent || !segment.runs.includes(i)) return false;
          step = segment.to;
          parent = segment.id;
        }
        if (step !== run.end || !run.marks.every((mark) => way.some((s) => s.to === mark))) return false;
      }
      return true;
    }),
    { seed },
  );
  t.pass();
});

test("a segment's name says its values and identity only: equal for equal beginnings, whatever else a study holds", (t) => {
  const values = [1, 1, 1, 2, 2];
  const alone = treeOf([runOf(values)]);
  const among = treeOf([runOf([1, 1, 2, 2]), runOf(values), runOf([3])]);
  t.is(among.paths[1]!.at(-1), alone.paths[0]!.at(-1));
  t.not(treeOf([runOf(values)], 2).paths[0]![0], alone.paths[0]![0]);
  t.not(treeOf([runOf([1, 1, 1, 2, 3])]).paths[0]!.at(-1), alone.paths[0]!.at(-1));
});

test("adding a run keeps the names of all ends that were there", (t) => {
  fc.assert(
    fc.property(randomRuns, randomRuns, (runs, more) => {
      const before = treeOf(runs);
      const after = new Set(treeOf([...runs, ...more]).segments.map((s) => s.id));
      return before.segments.every((s) => after.has(s.id));
    }),
    { seed },
  );
  t.pass();
});

test("the steps of a union count what runs share once", (t) => {
  const tree = treeOf([runOf([1, 1, 1, 2], [3]), runOf([1, 1, 1, 3, 3], [3])]);
  t.is(
    unionSteps(tree, [
      { run: 0, step: 4 },
      { run: 1, step: 5 },
    ]),
    6,
  );
  t.is(unionSteps(tree, [{ run: 1, step: 3 }]), 3);
});
