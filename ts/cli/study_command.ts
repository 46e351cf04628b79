import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ExitCode, ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { statusText, studyPlanJson, studyPlanText } from "../report/study_plan.ts";
import { type StudyReport, studyReport } from "../report/study_report.ts";
import { type LoadedStudy, loadStudy } from "../study/load.ts";
import { crewOf, prepareData, runLocally } from "../study/local.ts";
import { makeMerges } from "../study/merged.ts";
import { planStudy, type StudyPlan } from "../study/plan.ts";
import { studyProgress } from "../study/progress.ts";
import { collectResults } from "../study/results.ts";
import { submitToSlurm } from "../study/slurm.ts";
import { measureSpeeds, secondsLeft } from "../study/speed.ts";
import { StudyStore, standings } from "../study/store.ts";
import { tuneStudy } from "../study/tune.ts";
import { peaksOf, readTuned, saveTuned } from "../study/tuned.ts";
import { makeSegment, work } from "../study/worker.ts";
import { formatCount, formatDuration } from "../train/format.ts";
import { progressReporter } from "../train/progress.ts";
import { StopSignals } from "../train/signals.ts";
import { note, print, printJson } from "./output.ts";
import { version } from "./version.ts";

interface FileArguments {
  file: string;
  overrides: readonly string[];
  out: string | undefined;
  jobs: number | undefined;
  threads: number | undefined;
  "in-process"?: boolean | undefined;
  json: boolean;
}

const versions = () => ({ thalweg: version(), node: process.versions.node });

const storeOf = (study: LoadedStudy, out: string | undefined): StudyStore =>
  new StudyStore(out ?? join("studies", study.spec.name));

/** This command line once more: how a worker process starts. */
const ownCommand = (...args: string[]): string[] => [process.execPath, ...process.execArgv, process.argv[1]!, ...args];

/** `thalweg study plan` */
export async function runStudyPlan(
  args: FileArguments & { measure: boolean; "tokens-per-second": number | undefined },
): Promise<number> {
  const study = await loadStudy(args.file, args.overrides);
  const store = storeOf(study, args.out);
  const plan = await planStudy(study.spec, { tuned: peaksOf(await readTuned(store)), assumePeaks: true });
  const costs = await costsOf(plan, store, args);
  if (args.json) printJson(studyPlanJson(plan, costs));
  else print(studyPlanText(plan, costs));
  return ExitCode.ok;
}

async function costsOf(
  plan: StudyPlan,
  store: StudyStore,
  args: Pick<FileArguments, "jobs" | "threads"> & { measure: boolean; "tokens-per-second"?: number | undefined },
) {
  const { jobs, threads } = crewOf(plan, args);
  const given = args["tokens-per-second"];
  const speeds = given
    ? plan.shapes.map(() => given)
    : await measureSpeeds(plan, store, { threads, measure: args.measure });
  const progress = await studyProgress(plan, store);
  const left = new Map(progress.segments.map(({ segment, step }) => [segment.id, segment.to - step]));
  const seconds = secondsLeft(plan, speeds, (id) => left.get(id)!, jobs);
  return { speeds, jobs, threads, seconds, stepsDone: progress.stepsDone };
}

/** `thalweg study run` */
export async function runStudyRun(args: FileArguments & { executor: "local" | "slurm" }): Promise<number> {
  using signals = new StopSignals({ onFirst: (name) => note(`${name}: saving, then stopping`) }).install();
  const study = await loadStudy(args.file, args.overrides);
  const store = storeOf(study, args.out);
  const plan = await readyPlan(study, store, signals.signal);
  await store.savePlan(plan);
  note(studyPlanText(plan, await costsOf(plan, store, { ...args, measure: false })));
  note("");
  if (args.executor === "slurm") return submit(plan, store, args.json);
  const finished = await trainLocally(plan, store, args, signals.signal);
  if (finished) return finish(plan, store, args.json);
  note(`To go on: thalweg study run ${[args.file, ...args.overrides].join(" ")} --out ${store.folder}`);
  return ExitCode.savedRunAgain;
}

/** Workers on this machine, or this very process, with a line for each segment that ends. */
export async function trainLocally(
  plan: StudyPlan,
  store: StudyStore,
  asked: Pick<FileArguments, "jobs" | "threads" | "in-process">,
  signal: AbortSignal,
): Promise<boolean> {
  if (asked["in-process"]) return trainHere(plan, store, asked.threads, signal);
  const { jobs, threads } = crewOf(plan, asked);
  const watching = new AbortController();
  const lines = printProgress(plan, store, watching.signal);
  try {
    return await runLocally(plan, store, { command: ownCommand("study", "work"), jobs, threads, signal, onNote: note });
  } finally {
    watching.abort();
    await lines;
  }
}

/** One segment after the other in this process, which holds its device throughout: for segments that take seconds. */
function trainHere(
  plan: StudyPlan,
  store: StudyStore,
  asked: number | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const { threads } = crewOf(plan, { jobs: 1, threads: asked });
  let begun = performance.now();
  return work(plan, store, {
    threads,
    signal,
    versions: versions(),
    onSegment: () => {
      begun = performance.now();
    },
    onDone: ({ label, from, to }, outcome) => {
      const seconds = (performance.now() - begun) / 1000;
      note(`${label}: steps ${formatCount(from)} to ${formatCount(to)}  ${outcome} in ${seconds.toFixed(1)} s`);
    },
  });
}

/** `thalweg tune` */
export async function runTune(args: FileArguments): Promise<number> {
  using signals = new StopSignals({ onFirst: (name) => note(`${name}: saving, then stopping`) }).install();
  const study = await loadStudy(args.file, args.overrides);
  const store = storeOf(study, args.out);
  const { signal } = signals;
  await prepareAll(study.spec, await planStudy(study.spec, { assumePeaks: true }), signal);
  const train = (plan: StudyPlan, part: StudyStore) => trainLocally(plan, part, args, signal);
  const tuned = await tuneStudy(study.spec, store.folder, { train, onNote: note });
  if (tuned === null) {
    note(`To go on: thalweg tune ${[args.file, ...args.overrides].join(" ")} --out ${store.folder}`);
    return ExitCode.savedRunAgain;
  }
  await saveTuned(store, tuned);
  if (args.json) printJson(tuned);
  else
    for (const [key, { peak, interior }] of Object.entries(tuned.peaks))
      print(`${key}: ${peak}${interior ? "" : " (edge)"}`);
  return ExitCode.ok;
}

async function submit(plan: StudyPlan, store: StudyStore, json: boolean): Promise<number> {
  const options = { command: ownCommand("study", "work"), directory: process.cwd() };
  const jobs = await submitToSlurm(plan, store, options);
  if (json) printJson({ folder: store.folder, jobs });
  else if (jobs.length === 0) print("nothing is missing");
  else print(`submitted ${jobs.length} job arrays: ${jobs.join(", ")}\nthen: thalweg study report ${store.folder}`);
  return ExitCode.ok;
}

/** The plan with its data here: prepared now, where the study says from what. */
async function readyPlan({ spec }: LoadedStudy, store: StudyStore, signal: AbortSignal): Promise<StudyPlan> {
  const tuned = peaksOf(await readTuned(store));
  const first = await planStudy(spec, { tuned });
  const made = await prepareAll(spec, first, signal);
  return made ? planStudy(spec, { tuned }) : first;
}

/** Prepares data that are not here, where the study says from what. Returns whether it did. */
async function prepareAll(spec: StudySpec, plan: StudyPlan, signal: AbortSignal): Promise<boolean> {
  let made = false;
  for (const folder of new Set(plan.segments.map((s) => s.config.data.train))) {
    if (!(await prepareData(spec, folder, signal))) continue;
    note(`prepared ${folder}`);
    made = true;
  }
  return made;
}

/** Writes a report and its files into the study's folder; returns the page. */
export async function writeReport(store: StudyStore, report: StudyReport): Promise<string> {
  await mkdir(join(store.folder, "figures"), { recursive: true });
  const page = join(store.folder, "report.html");
  await writeFileAtomic(page, report.html);
  await writeFileAtomic(join(store.folder, "results.csv"), report.csv);
  await writeFileAtomic(join(store.folder, "results.json"), `${JSON.stringify(report.json, null, 1)}\n`);
  for (const [name, svg] of Object.entries(report.figures))
    await writeFileAtomic(join(store.folder, "figures", name), svg);
  return page;
}

async function finish(plan: StudyPlan, store: StudyStore, json: boolean): Promise<number> {
  const report = studyReport(plan, await collectResults(plan, store), await readTuned(store));
  const page = await writeReport(store, report);
  if (json) printJson({ folder: store.folder, report: page, results: report.json });
  else print(`${report.text}\n\nreport: ${page}`);
  return ExitCode.ok;
}

/** `thalweg study report` */
export async function runStudyReport(args: { folder: string; json: boolean }): Promise<number> {
  const store = new StudyStore(args.folder);
  return finish(await store.plan(), store, args.json);
}

/** A line for each segment that ends, with the time left, until told to stop. */
async function printProgress(plan: StudyPlan, store: StudyStore, signal: AbortSignal): Promise<void> {
  const begun = performance.now();
  const before = await studyProgress(plan, store);
  const told = new Set(before.segments.filter((s) => s.standing === "done").map((s) => s.segment.id));
  for (let last = false; !last; ) {
    last = signal.aborted;
    const progress = await studyProgress(plan, store);
    for (const { segment, standing, loss } of progress.segments) {
      if (told.has(segment.id) || (standing !== "done" && standing !== "failed")) continue;
      told.add(segment.id);
      const elapsed = (performance.now() - begun) / 1000;
      const speed = (progress.stepsDone - before.stepsDone) / elapsed;
      const eta =
        progress.finished || speed === 0
          ? ""
          : `  ETA ${formatDuration((progress.stepsTotal - progress.stepsDone) / speed)}`;
      const result = standing === "failed" ? "diverged" : `loss ${loss?.toFixed(4) ?? "-"}`;
      note(
        `[${told.size}/${plan.segments.length}] ${segment.label}: steps ${formatCount(segment.from)} to ${formatCount(segment.to)}  ${result}${eta}`,
      );
    }
    if (!last) await sleep(500, undefined, { signal }).catch(() => undefined);
  }
}

/** `thalweg study status` */
export async function runStudyStatus(args: { folder: string; json: boolean }): Promise<number> {
  const store = new StudyStore(args.folder);
  const plan = await store.plan();
  const progress = await studyProgress(plan, store);
  if (args.json)
    printJson({
      ...progress,
      segments: progress.segments.map(({ segment: { config: _, ...s }, ...rest }) => ({ ...s, ...rest })),
    });
  else print(statusText(plan, progress));
  return ExitCode.ok;
}

/** `thalweg study work`: one worker process. */
export async function runStudyWork(args: {
  folder: string;
  threads: number | undefined;
  segment: string | undefined;
}): Promise<number> {
  using signals = new StopSignals({ onFirst: (name) => note(`${name}: saving, then stopping`) }).install();
  const store = new StudyStore(args.folder);
  const plan = await store.plan();
  const options = {
    threads: args.threads,
    signal: signals.signal,
    versions: versions(),
    reporter: progressReporter({ stream: process.stderr, seconds: 30 }),
    onSegment: (segment: { label: string; from: number; to: number }) =>
      note(`\n== ${segment.label}: steps ${segment.from} to ${segment.to}`),
  };
  if (args.segment === undefined) return (await work(plan, store, options)) ? ExitCode.ok : ExitCode.savedRunAgain;
  const segment = plan.segments.find((s) => s.id === args.segment);
  if (!segment) throw new ThalwegError("BAD_OPTION", `${args.folder} has no segment ${args.segment}.`);
  const outcome = await makeSegment(segment, plan, store, options);
  await makeMerges(plan, store, await standings(plan, store), options);
  if (outcome === "done") return ExitCode.ok;
  if (outcome === "failed") return ExitCode.diverged;
  if (outcome === "stopped") return ExitCode.savedRunAgain;
  throw new ThalwegError(
    "LOCKED",
    `segment ${segment.id} is ${outcome === "busy" ? "trained by another process" : "waiting for the one before it"}.`,
  );
}
