import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import test from "ava";
import { studyReport } from "../../ts/report/study_report.ts";
import type { StudyPlan } from "../../ts/study/plan.ts";
import { collectResults } from "../../ts/study/results.ts";
import type { StudyStore } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "../study/support/studies.ts";
import { checkXml } from "./helpers.ts";

const wsd = { lr: { wsd: { steps: "$budget", decay: { fraction: "$fraction" } } } };

let place: StudyPlace;
let study: { plan: StudyPlan; store: StudyStore };

test.before(async () => {
  place = await makeStudyPlace();
  study = await place.study("report", {
    question: 'Does 1 < 2 & "so on"?',
    budgets: [10, 20],
    schedules: { ...schedules, wsd },
    axes: { fraction: [0.1, 0.2], seed: [1, 2] },
    margin: 0.05,
  });
  await work(study.plan, study.store);
});

const report = async () => studyReport(study.plan, await collectResults(study.plan, study.store), null);

test("the report is one page that needs nothing else: no script, no address but those of XML and of its own files", async (t) => {
  const { html } = await report();
  t.notRegex(html, /<script|<link|@import|url\((?!#)/);
  const addresses = [...html.matchAll(/(?:href|src)="([^"]*)"/g)].map(([, address]) => address!);
  t.true(addresses.length > 0 && addresses.every((address) => address.startsWith("data:")));
  t.deepEqual(
    [...html.matchAll(/https?:[^"\s<]*/g)].map(([found]) => found).filter((a) => a !== "http://www.w3.org/2000/svg"),
    [],
  );
  t.true(html.includes("Does 1 &lt; 2 &amp; &quot;so on&quot;?"));
  t.regex(html, /badge demonstration/);
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  t.is(new Set(ids).size, ids.length, "figures of one page do not share names");
});

test("figures are well-formed, and there is one for each question: curves, budgets, compute, gain, the axis", async (t) => {
  const { figures } = await report();
  t.deepEqual(Object.keys(figures).sort(), [
    "axis-fraction.svg",
    "budgets.svg",
    "compute.svg",
    "curves.svg",
    "gain.svg",
  ]);
  for (const [name, svg] of Object.entries(figures)) t.notThrows(() => checkXml(svg), name);
});

test("the table of results has a line for each deliverable of each seed, with the losses that the segments measured", async (t) => {
  const { csv } = await report();
  const [header, ...lines] = csv
    .trim()
    .split("\n")
    .map((line) => line.split(","));
  const deliverables = study.plan.runs.flatMap((run) => run.deliverables);
  t.is(lines.length, deliverables.length);
  const column = (name: string) => header!.indexOf(name);
  for (const line of lines) {
    const state = line[column("state")]!;
    const records = await study.store.records(state);
    const last = records.findLast((r) => r.type === "evaluation");
    t.is(Number(line[column("loss")]), last!.loss);
  }
});

test("a decay's gain is the control's loss at the same step less its own", async (t) => {
  const { rows } = await collectResults(study.plan, study.store);
  const wsd = rows.find((r) => r.schedule === "wsd" && r.budget === 1)!;
  const control = rows.find(
    (r) =>
      r.control &&
      r.step === wsd.step &&
      r.replicate.seed === wsd.replicate.seed &&
      r.labels.fraction === wsd.labels.fraction,
  )!;
  t.is(wsd.controlLoss, control.loss);
});

test("at one budget the axis is drawn instead of the budget, and a control is listed once", async (t) => {
  const spec = { budgets: [20], schedules: { wsd, constant: schedules.constant }, axes: { fraction: [0.1, 0.2, 0.4] } };
  const { plan, store } = await place.study("single", spec);
  t.true(await work(plan, store));
  const { figures, html, text } = studyReport(plan, await collectResults(plan, store), null);
  t.deepEqual(Object.keys(figures).sort(), ["axis-fraction.svg", "curves.svg"]);
  t.regex(figures["axis-fraction.svg"]!, /gain over the constant rate/);
  for (const fraction of ["0.1", "0.2", "0.4"]) t.true(figures["curves.svg"]!.includes(`wsd ${fraction}`), fraction);
  t.is(text.match(/^constant /gm)?.length, 1);
  t.false(html.includes("undefined"));
});

test("a browser draws the page", async (t) => {
  const browser = ["chromium", "chromium-browser", "google-chrome"].find(
    (name) => spawnSync("which", [name]).status === 0,
  );
  if (!browser) return t.pass("no Chromium here");
  const file = join(place.folder, "report.html");
  writeFileSync(file, (await report()).html);
  const picture = join(place.folder, "report.png");
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1500", `--screenshot=${picture}`];
  const run = spawnSync(browser, [...args, pathToFileURL(file).href], { timeout: 60_000, encoding: "utf8" });
  t.is(run.status, 0, run.stderr);
  // An empty white page compresses to a few kilobytes.
  t.true(readFileSync(picture).length > 30_000);
});
