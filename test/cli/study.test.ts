import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { makeStudyPlace, schedules } from "../study/support/studies.ts";

const root = join(import.meta.dirname, "../..");

/** Runs `thalweg ARGS` from the sources. */
function thalweg(...args: string[]) {
  const main = join(root, "ts/cli/main.ts");
  const env = { ...process.env, NO_COLOR: "1" };
  const r = spawnSync(process.execPath, ["--import=tsx", main, ...args], { cwd: root, encoding: "utf8", env });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

test("plan, run, watch and report work one after the other", async (t) => {
  const place = await makeStudyPlace();
  const { file } = await place.study("cli", { budgets: [6, 12], schedules: { wsd: schedules.wsd } });
  const out = join(place.folder, "out");
  const planned = JSON.parse(thalweg("study", "plan", file, "--out", out, "--tokens-per-second", "1000", "--json").out);
  t.true(planned.seconds > 0 && planned.flops > 0 && planned.diskBytes > 0);
  t.false(existsSync(out), "a plan writes nothing");
  const ran = thalweg("study", "run", file, "--out", out, "--jobs", "1");
  t.is(ran.code, 0, ran.err);
  t.regex(ran.out, /report: .*report\.html/);
  t.regex(readFileSync(join(out, "report.html"), "utf8"), /^<!doctype html>/);
  t.regex(thalweg("watch", out).out, /█ 100\.0%/);
  t.is(thalweg("report", out).code, 0);
});

test("a folder that holds no study, and a study without tuning, are answered with what to do", async (t) => {
  const place = await makeStudyPlace();
  const { file } = await place.study("answers", { budgets: [6], schedules: { wsd: schedules.wsd } });
  const status = thalweg("study", "status", place.folder);
  t.is(status.code, 2);
  t.regex(status.err, /holds no study/);
  writeFileSync(join(place.folder, "plan.json"), "{");
  const torn = thalweg("study", "status", place.folder);
  t.is(torn.code, 5);
  t.regex(torn.err, /^error: .*plan\.json is not JSON: run the study again.*\n$/);
  const tuned = thalweg("tune", file, "--out", join(place.folder, "none"));
  t.is(tuned.code, 2);
  t.regex(tuned.err, /tuning/);
});
