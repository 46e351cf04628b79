// The part `study`: schedules compared at 20M parameters, on made data and on text, in as many calls as it takes. Runs and
// checkpoints lie in a folder of the machine; what is worth carrying away, and enough to go on elsewhere, under --out.
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync } from "node:fs";
import { join, resolve } from "node:path";
import { commandLine, failureOf } from "./execute.mjs";
import { readJson, writeJson } from "./results.mjs";

/** The studies in the order in which they are worth having. */
const arms = [
  { name: "facts", seconds: 60 },
  { name: "text", seconds: 60 },
];

/** Seconds kept of the budget for saving, the report and the archive. */
const wholeClosing = 15;
/** After SIGTERM: one checkpoint of 235 MB. */
const saving = 10;

/** A model and budgets that the SIMT machine and a test play in seconds: one seed to tune, two peaks, two seeds. */
const tinyOverrides = [
  "set.model={vocab: 257, dim: 16, layers: 1, heads: 2, ffn: 32}",
  "set.batch={length: 8, tokens: 16, microBatch: 2}",
  "set.schedule.lr.warmup=1 steps",
  "set.evaluation={every: 4, sequences: 2, skip: 2}",
  "budgets=[4, 8]",
  "schedules.wsd.lr.wsd.decay.fraction=0.25",
  "schedules.wsd-s.lr.wsd_s.decay.fraction=0.25",
  "schedules.wsd-s.lr.peak=tuned:wsd",
  "schedules.cyclic-cosine.lr.peak=tuned:cosine",
  "axes.seed=[1, 2]",
  "tuning.budget=4",
  "tuning.limit=3",
  "tuning.set.evaluation={every: 0, sequences: 2, skip: 0}",
];
const tinyFacts = { people: 8, tokens: 2000, validationTokens: 500 };

/** Where runs lie: memory where there is enough of it (235 MB a checkpoint, some twenty at a time), else the disk. */
export function workFolder(root, { device, tiny }, asked) {
  if (asked !== undefined) return resolve(asked);
  const roomy = (path) => {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize > 16e9;
  };
  const memory = "/dev/shm";
  return device === "cuda" && existsSync(memory) && roomy(memory)
    ? join(memory, "thalweg-study")
    : join(root, tiny ? "out/study-tiny" : "out/study");
}

/** Files of the part under --out: with study.json, suite.json and suite.md no more than eight. */
export const archiveName = "segments.tar.gz";
const left = ["checkpoints", "locks", "logs", "figures", "report.html", "results.csv", "results.json"];

/** Metrics, plans and peaks of all studies as one archive: with it another machine goes on, and a report is made anywhere. */
function pack(work, folder) {
  const to = join(folder, archiveName);
  const args = ["-czf", `${to}.tmp`, ...left.map((name) => `--exclude=${name}`), "-C", work, "studies"];
  const r = spawnSync("tar", args, { encoding: "utf8" });
  if (r.status !== 0) throw new Error(`tar: ${r.stderr}`);
  renameSync(`${to}.tmp`, to);
}

/** On a machine that has nothing yet: what was carried here. Returns whether there was something. */
export function unpack(work, folder) {
  const from = join(folder, archiveName);
  if (existsSync(join(work, "studies")) || !existsSync(from)) return false;
  mkdirSync(work, { recursive: true });
  const aside = join(work, "unpacking");
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside);
  const r = spawnSync("tar", ["-xzf", resolve(from), "-C", aside], { encoding: "utf8" });
  if (r.status !== 0) throw new Error(`tar: ${r.stderr}`);
  renameSync(join(aside, "studies"), join(work, "studies"));
  rmSync(aside, { recursive: true });
  return true;
}

/** Runs to its end or for so many seconds, then SIGTERM and time to save. { status, out, err, stopped, command } */
function runFor(place, work, args, { seconds, say }) {
  const [command, ...first] = place.command;
  const child = spawn(command, [...first, ...args], {
    cwd: work,
    env: { ...process.env, ...place.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err, line] = ["", "", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => {
    err = (err + text).slice(-20_000);
    const lines = (line + text).split("\n");
    line = lines.pop();
    for (const whole of lines) say(`  ${whole}`);
  });
  let stopped = false;
  const stop = setTimeout(
    () => {
      stopped = true;
      child.kill("SIGTERM");
    },
    Math.max(0, seconds * 1000),
  );
  const end = setTimeout(() => child.kill("SIGKILL"), Math.max(0, seconds + saving) * 1000);
  return new Promise((done) => {
    const finish = (result) => {
      clearTimeout(stop);
      clearTimeout(end);
      done(result);
    };
    child.on("error", (error) => finish({ status: error.code, out, err: error.message, stopped, command }));
    child.on("close", (code, signal) => {
      // Where things lie on this machine is not a result's to tell.
      const said = commandLine(place.root, command, [...first, ...args]).replaceAll(`${place.root}/`, "");
      finish({ status: code ?? signal, out, err, stopped, command: said });
    });
  });
}

const savedRunAgain = 75;

/** The file of an arm, and what is laid over it on this device. */
function studyArguments(place, arm, text) {
  const file = join(place.root, "configs/studies/one-gpu", `${arm}.yaml`);
  const inputs = text === undefined ? `packages:${join(place.root, "node_modules")}` : resolve(text);
  const overrides = [
    `set.device=${place.device}`,
    ...(arm === "text" ? [`prepare.inputs=${JSON.stringify([inputs])}`] : []),
    ...(arm === "text" && text !== undefined ? ["set.data.train=data/text"] : []),
    ...(place.tiny ? tinyOverrides : []),
    ...(place.tiny && arm === "facts"
      ? Object.entries(tinyFacts).map(([key, value]) => `prepare.synthetic.${key}=${value}`)
      : []),
  ];
  return [file, ...overrides, "--out", `studies/${arm}`, "--in-process"];
}

/** How far a study is: segments whose metrics are whole, steps and seconds they took, by its plan. */
export function progressOf(folder) {
  const plan = readJson(join(folder, "plan.json"));
  const whole = plan.segments.filter(({ id }) => existsSync(join(folder, "segments", id, "measured.json")));
  const steps = (segments) => segments.reduce((sum, { from, to }) => sum + to - from, 0);
  const seeds = [...new Set(plan.runs.map(({ replicate }) => replicate.seed))];
  const done = new Set(whole.map(({ id }) => id));
  const finished = seeds.filter((seed) =>
    plan.runs.every(({ replicate, path }) => replicate.seed !== seed || path.every((id) => done.has(id))),
  );
  return {
    segments: [whole.length, plan.segments.length],
    steps: [steps(whole), steps(plan.segments)],
    seeds: [finished.length, seeds.length],
    tokensPerSecond: speedOf(whole, folder),
  };
}

/** Tokens per second of the longest segment's last steps: the median. */
function speedOf(segments, folder) {
  const longest = segments.toSorted((a, b) => b.to - b.from - (a.to - a.from))[0];
  if (longest === undefined) return null;
  const lines = readFileSync(join(folder, "segments", longest.id, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n");
  const steps = lines
    .slice(-200)
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === "step");
  const speeds = steps.map(({ tokensPerSecond }) => tokensPerSecond).sort((a, b) => a - b);
  return speeds[speeds.length >> 1] ?? null;
}

/** The report of what is there, beside the other results. Returns it as text; null before anything is trained. */
async function report(place, work, arm, folder, say) {
  const study = join(work, "studies", arm);
  if (!existsSync(join(study, "plan.json"))) return null;
  const r = await runFor(place, work, ["study", "report", `studies/${arm}`], { seconds: wholeClosing, say });
  if (r.status !== 0) throw new Error(failureOf(r));
  copyFileSync(join(study, "report.html"), join(folder, `${arm}.html`));
  copyFileSync(join(study, "results.json"), join(folder, `${arm}.json`));
  return r.out.split("\n\nreport: ")[0];
}

/** Notes that segments of the work folder are trained by this commit on this device; returns all that did. */
function noteSource(work, { commit, device }) {
  const path = join(work, "studies", "source.json");
  const now = { commit, device: device.name };
  const before = existsSync(path) ? readJson(path) : [];
  const known = before.some((one) => one.commit === now.commit && one.device === now.device);
  const all = known ? before : [...before, now];
  if (!known) writeJson(path, all);
  return all;
}

/**
 * Two jobs for each study: its peaks, then its runs, seed by seed. Both stop when the time is up and go on when called again.
 * `out` is the suite's --out, `work` where runs lie, `text` a folder of text instead of that of packages, `subject` says
 * which commit and device measure.
 */
export function studyJobs(place, { out, work, text, subject, say }) {
  const folder = join(out, "study");
  const closing = place.tiny ? 5 : wholeClosing;
  const command = place.command ?? [process.execPath, join(place.root, "dist/cli/main.js")];
  const here = { ...place, command };
  const begin = () => {
    mkdirSync(folder, { recursive: true });
    if (unpack(work, folder)) say(`going on from ${join(folder, archiveName)}: what is measured is not trained again`);
    const sources = noteSource(work, subject);
    if (sources.length > 1)
      say(`segments in ${work} come from ${sources.map((s) => `${s.commit} (${s.device})`).join(", ")}`);
    mkdirSync(join(work, "data"), { recursive: true });
    const packed = join(place.root, "data/packages");
    if (existsSync(packed) && text === undefined && !existsSync(join(work, "data/packages")))
      cpSync(packed, join(work, "data/packages"), { recursive: true });
  };
  return arms.flatMap(({ name: arm, seconds }) =>
    [
      ["peaks", ["tune"]],
      ["seeds", ["study", "run"]],
    ].map(([what, verb]) => ({
      name: `${arm}: ${what}`,
      seconds: place.tiny ? 10 : seconds,
      limit: Number.POSITIVE_INFINITY,
      run: async (limit) => {
        begin();
        const args = [...verb, ...studyArguments(place, arm, text)];
        const r = await runFor(here, work, args, { seconds: limit - closing, say });
        const study = join(work, "studies", arm);
        if (existsSync(join(work, "studies"))) pack(work, folder);
        const summary = await report(here, work, arm, folder, () => undefined);
        const unfinished = r.status === savedRunAgain || (r.stopped && r.status !== 0);
        const progress = summary === null ? {} : { progress: progressOf(study), summary };
        const found = { unfinished, command: r.command, ...progress };
        return r.status === 0 || unfinished ? { ok: true, ...found } : { ok: false, ...found, error: failureOf(r) };
      },
    })),
  );
}

const share = ([done, all]) => `${done} of ${all}`;

/** The part as a section of the suite's page. */
export function studySection(record) {
  return Object.entries(record.results)
    .map(([name, { ok, unfinished, error, progress, summary }]) => {
      const speed = progress?.tokensPerSecond ? `, ${Math.round(progress.tokensPerSecond)} tokens/s` : "";
      const far = progress
        ? `seeds ${share(progress.seeds)}, segments ${share(progress.segments)}, steps ${share(progress.steps)}${speed}`
        : unfinished
          ? "not finished"
          : "done";
      const table = summary && name.endsWith("seeds") ? `\n\n\`\`\`\n${summary}\n\`\`\`` : "";
      return `${name}: ${ok ? far : `FAIL ${error}`}${table}`;
    })
    .join("\n\n");
}
