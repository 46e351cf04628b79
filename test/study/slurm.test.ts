import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { slurmArrays, submitToSlurm } from "../../ts/study/slurm.ts";
import { StudyStore } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { startCluster, whyNoSlurm } from "./support/slurm.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const spec = { budgets: [10, 20], schedules: { wsd: schedules.wsd }, axes: { seed: [1, 2] } };

test("arrays mirror the tree: each task has the number of its parent's, seeds are tasks of the same arrays", async (t) => {
  const { plan } = await place.study("arrays", spec);
  const arrays = slurmArrays(plan, () => true);
  t.is(arrays.length, plan.segments.length / 2);
  for (const { after, tasks } of arrays)
    for (const [task, { parent }] of tasks) t.is(after === null ? null : arrays[after]!.tasks.get(task)!.id, parent);
  t.deepEqual(
    arrays.flatMap(({ tasks }) => [...tasks.values()].map((s) => s.id)).sort(),
    plan.segments.map((s) => s.id).sort(),
  );
});

test("arrays in which everything is done are not submitted, and what follows them does not wait", async (t) => {
  const { plan } = await place.study("arrays-partly", spec);
  const roots = new Set(plan.segments.filter((s) => s.parent === null).map((s) => s.id));
  const arrays = slurmArrays(plan, ({ id }) => !roots.has(id));
  t.is(arrays.length, plan.segments.length / 2 - 1);
  t.true(arrays.every(({ after }, i) => after === null || after < i));
  t.true(arrays.some(({ after }) => after === null));
});

/** What every job wrote: for a failure. */
function logs(folder: string): string {
  const files = readdirSync(join(folder, "logs")).sort();
  return files.map((f) => `--- ${f}\n${readFileSync(join(folder, "logs", f), "utf8").slice(-1500)}`).join("\n");
}

const reason = whyNoSlurm();
(reason === null ? test : test.skip)(
  `Slurm trains the tree, and a job that is warned saves, queues itself again and ends with the same bits${reason === null ? "" : `: ${reason}`}`,
  async (t) => {
    t.timeout(480_000);
    const { plan, store } = await place.study("slurm", { ...spec, execution: { slurm: { sbatch: ["--time=5"] } } });
    const cluster = await startCluster(join(place.folder, "cluster"), 20_000 + (process.pid % 20_000));
    try {
      const worker = join(import.meta.dirname, "support", "slurm_worker.ts");
      const command = ["/usr/bin/env", "THALWEG_TEST_PAUSE=250", process.execPath, "--import=tsx", worker];
      const jobs = await submitToSlurm(plan, store, { command, directory: process.cwd() });
      await t.throwsAsync(submitToSlurm(plan, store, { command, directory: process.cwd() }), { code: "LOCKED" });
      const arrays = slurmArrays(plan, () => true);
      const longest = plan.segments.reduce((most, s) => (s.to - s.from > most.to - most.from ? s : most));
      const array = arrays.find(({ tasks }) => [...tasks.values()].includes(longest))!;
      const task = [...array.tasks].find(([, s]) => s === longest)![0];
      const log = join(store.folder, "logs", `slurm-${jobs[array.index]}_${task}.log`);
      let warned = false;
      let busy = Date.now();
      const finished = () => plan.segments.every((s) => store.hasWeights(s));
      while (!finished()) {
        if (!warned && existsSync(log) && readFileSync(log, "utf8").includes("step ")) {
          // As Slurm does before the time limit: to the batch script alone.
          cluster.run("scancel", "--batch", "--signal=USR1", `${jobs[array.index]}_${task}`);
          warned = true;
        }
        // A job between its end and its next place in the queue is listed nowhere for a moment.
        const queue = cluster.run("squeue", "--noheader", "--states=all", "--format=%T").trim();
        if (/PENDING|RUNNING|COMPLETING|REQUEUE|CONFIGURING/.test(queue)) busy = Date.now();
        t.true(Date.now() - busy < 10_000 || finished(), `${queue}\n${logs(store.folder)}`);
        await sleep(200);
      }
      const lines = readFileSync(log, "utf8");
      const [before, after] = lines.split("stopped\n");
      t.true(warned && (after ?? "").includes("done"), lines);
      t.notRegex(after!, new RegExp(`step ${longest.from + 1}\\b`), "it went on, it did not begin anew");
      t.regex(before!, /step \d/);
    } finally {
      await cluster.stop();
    }
    const alone = new StudyStore(join(place.folder, "studies", "alone"));
    await alone.savePlan(plan);
    await work(plan, alone);
    for (const segment of plan.segments)
      for (const name of ["model.safetensors", "optimizer.safetensors"]) {
        const [a, b] = [store, alone].map((s) => readFileSync(join(s.checkpoint(segment), name)));
        t.true(a!.equals(b!), `${segment.label} ${segment.to} ${name}`);
      }
  },
);
