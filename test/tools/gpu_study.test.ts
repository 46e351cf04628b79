/** The suite's part `study` at a tiny size on the CPU: stopped, gone on with, carried to another machine. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { loadStudy } from "../../ts/study/load.ts";

const root = join(import.meta.dirname, "../..");
const tool = (name: string) => import(join(root, "tools/gpu/suite", name)); // plain JavaScript: it runs without a build
const { studyJobs, studySection, workFolder } = await tool("study.mjs");
const { Budget, runPart } = await tool("results.mjs");

const folder = mkdtempSync(join(tmpdir(), "thalweg-gpu-study-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const subject = { commit: "c", ptxHash: "h", device: { name: "test" } };
const tsx = import.meta.resolve("tsx", import.meta.url);
const cli = [process.execPath, `--import=${tsx}`, join(root, "ts/cli/main.ts")];
const text = join(folder, "text");
mkdirSync(text);

interface Played {
  name: string;
  seconds?: number;
  command?: readonly string[];
  arms?: RegExp;
}

/** The part on the CPU, its files under NAME; { record, said }. */
async function play(work: string, { name, seconds = 600, command = cli, arms = /facts/ }: Played) {
  const said: string[] = [];
  const say = (line: string) => said.push(line);
  const out = join(folder, name);
  const place = { root, tiny: true, device: "cpu", env: {}, command };
  const jobs = studyJobs(place, { out, work, text, subject, say }).filter((job: { name: string }) =>
    arms.test(job.name),
  );
  const path = join(out, "study.json");
  return { record: await runPart({ part: "study", subject, jobs, budget: new Budget(seconds), path, say }), said, out };
}

test("peaks and seeds are trained, reported, and on another machine gone on with from what was carried there", async (t) => {
  t.timeout(600_000);
  const first = await play(join(folder, "one"), { name: "results" });
  t.true(first.record.ok && first.record.complete, JSON.stringify(first.record));
  const files = readdirSync(join(first.out, "study")).sort();
  t.deepEqual(files, ["facts.html", "facts.json", "segments.tar.gz"]);
  const results = JSON.parse(readFileSync(join(first.out, "study/facts.json"), "utf8"));
  t.is(results.rows.filter((row: { loss: unknown }) => row.loss === null).length, 0);
  t.true(results.rows.every(({ loss, entropy }: Record<string, number>) => loss! > entropy! && entropy! > 0));
  t.regex(studySection(first.record), /seeds 2 of 2, segments (\d+) of \1, steps (\d+) of \2, \d+ tokens\/s/);

  rmSync(join(folder, "one"), { recursive: true });
  rmSync(join(first.out, "study.json"));
  rmSync(join(first.out, "study/facts.json"));
  const second = await play(join(folder, "two"), { name: "results", arms: /facts: seeds/ });
  t.true(second.record.ok && second.record.complete);
  t.regex(second.said.join("\n"), /going on from .*segments\.tar\.gz/);
  t.notRegex(second.said.join("\n"), /steps \d+ to \d+ {2}done/, "nothing is trained again");
  t.deepEqual(JSON.parse(readFileSync(join(second.out, "study/facts.json"), "utf8")), results);
});

/** A command line that takes as long as it is let, until there is a file studies/again; then it is done at once. */
function slow(): readonly string[] {
  const script = join(folder, "slow.mjs");
  const lines = [
    'import { existsSync } from "node:fs";',
    'process.on("SIGTERM", () => process.exit(75));',
    'if (!existsSync("studies/again")) await new Promise((done) => setTimeout(done, 120_000));',
  ];
  writeFileSync(script, lines.join("\n"));
  return [process.execPath, script];
}

test("near the end of the budget a study is told to save, is left for another call, and nothing is begun after it", async (t) => {
  const command = slow();
  const work = join(folder, "slow");
  // The first job takes what there is but the seconds for closing, and the second would need ten.
  const first = await play(work, { name: "slow-results", seconds: 11, command });
  t.like(first.record, { ok: true, complete: false, left: ["facts: peaks", "facts: seeds"] });
  t.regex(studySection(first.record), /facts: peaks: not finished/);
  writeFileSync(join(work, "studies/again"), "");
  const second = await play(work, { name: "slow-results", command });
  t.like(second.record, { ok: true, complete: true, left: [] });
});

test("a study that fails says why", async (t) => {
  const command = [process.execPath, "-e", "console.error('error: no device'); process.exit(4)", "--"];
  const { record } = await play(join(folder, "failing"), { name: "failing-results", command });
  t.like(record, { ok: false, complete: true });
  t.regex(studySection(record), /facts: peaks: FAIL exit 4: error: no device/);
});

test("what one GPU is given: no run reads made data twice, and validation text for tuning and for the result", async (t) => {
  const { spec } = await loadStudy(join(root, "configs/studies/one-gpu/facts.yaml"));
  const { tokens, validationTokens } = spec.prepare!.synthetic!;
  const evaluation = spec.set.evaluation as Record<string, number>;
  const [length, batch, longest] = [1024, 32_768, 2000 + 0.1 * (500 + 1000)];
  t.true(tokens > longest * batch);
  t.true(validationTokens! > (evaluation.sequences! + evaluation.skip!) * length);
  t.is(spec.tuning!.seeds.length, 1);
  t.is(workFolder(root, { device: "cuda", tiny: false }, folder), folder);
});
