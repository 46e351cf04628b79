import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { StudyStore } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { uniforms } from "../../ts/train/random.ts";
import type { MetricsRecord } from "../../ts/train/records.ts";
import { makeStudyPlace, schedules } from "./support/studies.ts";

/** THALWEG_FAULTS=20 for the long version. */
const kills = Number(process.env.THALWEG_FAULTS ?? 4);

interface Runner {
  process: ChildProcess;
  workers: number[];
  ended: Promise<number | null>;
}

function startRunner(folder: string, pause: number): Runner {
  const script = join(import.meta.dirname, "support", "runner.ts");
  const env = { ...process.env, THALWEG_TEST_PAUSE: String(pause) };
  const child = spawn(process.execPath, ["--import=tsx", script, folder], {
    stdio: ["ignore", "pipe", "inherit"],
    env,
  });
  const workers: number[] = [];
  child.stdout.on("data", (text: Buffer) => {
    for (const [, pid] of text.toString().matchAll(/worker (\d+)/g)) workers.push(Number(pid));
  });
  return { process: child, workers, ended: once(child, "close").then(([code]) => code as number | null) };
}

/** What a study measured, without what depends on the clock or on how often it was interrupted. */
async function resultOf(store: StudyStore): Promise<unknown[]> {
  const plan = await store.plan();
  const kept = (r: MetricsRecord) => r.type === "step" || r.type === "evaluation";
  return Promise.all(
    plan.segments.map(async (segment) => {
      const records = (await store.records(segment.id)).filter(kept);
      const files = ["model.safetensors", "optimizer.safetensors"];
      return {
        id: segment.id,
        records: records
          .map((r) => ({ ...r, tokensPerSecond: 0, share: 0 }))
          .sort((a, b) => a.step - b.step || (a.type < b.type ? -1 : 1)),
        tensors: files.map((name) => readFileSync(join(store.checkpoint(segment), name)).toString("base64")),
      };
    }),
  );
}

test(`a study whose runner and workers are killed ${kills} times ends with the results of an undisturbed one`, async (t) => {
  const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 1e6);
  t.log(`seed ${seed}`);
  t.timeout(60_000 + kills * 60_000);
  const place = await makeStudyPlace();
  const spec = { budgets: [10, 20, 40], schedules, axes: { seed: [1, 2] } };
  const { plan, store: whole } = await place.study("whole", spec);
  t.true(await work(plan, whole));
  const disturbed = new StudyStore(join(place.folder, "studies", "disturbed"));
  await disturbed.savePlan(plan);
  const uniform = uniforms(seed);
  const orphans: number[] = [];
  let inTheMidst = 0;
  for (let kill = 0; kill < kills; kill++) {
    const runner = startRunner(disturbed.folder, 15 * kills);
    while (runner.workers.length < 2 && runner.process.exitCode === null) await sleep(20);
    await sleep(800 + 1500 * uniform());
    const victim = kill % 2 === 0 ? runner.process.pid! : runner.workers[kill % 4 === 1 ? 0 : 1]!;
    inTheMidst += plan.segments.some((segment) => !disturbed.hasWeights(segment)) ? 1 : 0;
    end(victim);
    // A runner that lost a worker starts another; one that was killed leaves its workers at work. Then the other goes too.
    await sleep(300 * uniform());
    if (kill % 2 === 1) runner.process.kill("SIGKILL");
    await runner.ended;
    for (const pid of runner.workers) {
      if (uniform() < 0.5) end(pid);
      else orphans.push(pid);
    }
  }
  t.is(await startRunner(disturbed.folder, 0).ended, 0);
  for (const pid of orphans) end(pid);
  t.true(inTheMidst > kills / 2, `only ${inTheMidst} of ${kills} kills met a study that was not finished`);
  t.deepEqual(await resultOf(disturbed), await resultOf(whole));
});

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}
