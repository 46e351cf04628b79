import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";

const root = join(import.meta.dirname, "../..");
const main = join(root, "ts/cli/main.ts");

/** Runs `thalweg ARGS` from the sources. */
function thalweg(...args: string[]) {
  return thalwegReading("", ...args);
}

/** The same with something on standard input. */
function thalwegReading(input: string, ...args: string[]) {
  const r = spawnSync(process.execPath, ["--import=tsx", main, ...args], {
    cwd: root,
    input,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

const folder = mkdtempSync(join(tmpdir(), "thalweg-cli-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

test("--help lists every command and exits 0", (t) => {
  const { code, out } = thalweg("--help");
  t.is(code, 0);
  for (const name of ["train", "eval", "generate", "data", "schedule", "compare", "inspect", "bench", "doctor"])
    t.regex(out, new RegExp(`thalweg ${name}`));
});

test("an unknown command is answered with the nearest name and exit 2", (t) => {
  const { code, err } = thalweg("trian", "configs/quickstart.yaml");
  t.is(code, 2);
  t.regex(err, /train/);
});

test("an option that is no number, a command cut short and a file that cannot be written are told apart, each with exit 2", (t) => {
  const asked = [
    [["generate", "runs/x", "--top-k", "many"], /^error: --top-k is not a number\.$/m],
    [["train"], /^error: 0 arguments given, 1 or more expected: the command's --help names them\.$/m],
    [
      ["schedule", "export", "configs/quickstart.yaml", "--out", join(folder, "nowhere", "lr.py")],
      /^error: cannot open .*nowhere\/lr\.py: there is no such file or folder \(ENOENT\)\.$/m,
    ],
  ] as const;
  for (const [args, message] of asked) {
    const { code, err } = thalweg(...args);
    t.is(code, 2);
    t.regex(err, message);
    t.notRegex(err, /\n {4}at /, "no stack");
  }
});

test("data prepare - reads standard input", (t) => {
  const text = ["one", "two", "three"].map((word) => `${JSON.stringify({ text: word })}\n`).join("");
  const output = join(folder, "stdin");
  const asked = ["data", "prepare", "-", "--out", output, "--tokenizer", "bytes", "--validation", "0", "--json"];
  const { code, out, err } = thalwegReading(text, ...asked);
  t.is(code, 0, err);
  t.is((JSON.parse(out) as { train: { documents: number } }).train.documents, 3);
});

test("an unknown option stops a command before it starts", (t) => {
  const { code, err, out } = thalweg("train", "configs/quickstart.yaml", "--dry-runn");
  t.is(code, 2);
  t.regex(err, /^error: Unknown argument: dry-runn$/m);
  t.is(out, "");
});

test("an unknown field is answered with its place, the nearest name and exit 2", (t) => {
  const { code, err } = thalweg("train", "configs/quickstart.yaml", "batch.lenght=64", "--dry-run");
  t.is(code, 2);
  t.regex(err, /batch\.lenght/);
  t.regex(err, /length/);
});

test("budgets whose decays overlap are refused with the file and line", (t) => {
  const file = join(folder, "overlap.yaml");
  const text = readFileSync(join(root, "configs/quickstart.yaml"), "utf8");
  writeFileSync(file, text.replace("fraction: 0.1, of: cumulative", "steps: [30, 400, 30]"));
  const { code, err } = thalweg("schedule", "show", file);
  t.is(code, 2);
  t.regex(err, /overlap\.yaml:\d+/);
  t.regex(err, /wsd_s/);
});

test("--dry-run says what a run costs without data or device", (t) => {
  const { code, out } = thalweg("train", "configs/paper-0.1b-wsds.yaml", "batch.microBatch=1", "--dry-run", "--json");
  t.is(code, 0);
  const plan = JSON.parse(out);
  t.is(plan.steps, 53750);
  t.is(plan.tokensPerStep, 4194304);
  t.is(Math.round(plan.parameters.nonEmbedding / 1e5), 1133);
  t.deepEqual(
    plan.checkpoints.filter((c: { occasion: string }) => c.occasion === "post-decay" || c.occasion === "final").length,
    3,
  );
});

test("schedule show prints the paper's phases", (t) => {
  const { code, out } = thalweg("schedule", "show", "configs/paper-0.1b-wsds.yaml", "--json");
  t.is(code, 0);
  const { phases } = JSON.parse(out);
  t.deepEqual(
    phases.map((p: { end: number }) => p.end),
    [2000, 11250, 12500, 23750, 26250, 48750, 53750],
  );
});

test("a device that is not there is exit 6, never a silent fallback", (t) => {
  const text = join(folder, "text.txt");
  writeFileSync(text, "to be or not to be\n".repeat(4000));
  const data = join(folder, "data-cuda");
  t.is(thalweg("data", "prepare", text, "--out", data, "--split-by", "tail").code, 0);
  const { code, err } = thalweg(
    "train",
    "configs/quickstart.yaml",
    `data.train=${data}`,
    "device=cuda",
    "--out",
    join(folder, "cuda"),
  );
  t.is(code, 6);
  t.regex(err, /cuda/);
});

test("prepare, train, inspect, eval, generate and compare work one after the other", (t) => {
  const text = join(folder, "long.txt");
  writeFileSync(text, Array.from({ length: 6000 }, (_, i) => `line ${i} of the river, ${i * i} pebbles\n`).join(""));
  const data = join(folder, "data");
  const run = join(folder, "run");
  t.is(thalweg("data", "prepare", text, "--out", data, "--split-by", "tail").code, 0);
  t.regex(thalweg("data", "inspect", join(data, "train"), "--verify").err, /as it was written/);
  const trained = thalweg(
    "train",
    "configs/quickstart.yaml",
    `data.train=${data}`,
    "model.dim=32",
    "model.heads=2",
    "model.layers=1",
    "batch.length=32",
    "batch.tokens=128",
    "evaluation.sequences=4",
    "evaluation.every=0",
    "schedule.lr.warmup=2",
    "schedule.lr.wsd_s.budgets=[10, 20]",
    "--out",
    run,
    "--json",
  );
  t.is(trained.code, 0, trained.err);
  const lines = trained.out
    .trim()
    .split("\n")
    .map((l) => JSON.parse(l));
  t.is(lines.at(-1).type, "result");
  t.is(lines.at(-1).step, 21);
  t.regex(thalweg("inspect", "run", run).out, /training loss/);
  t.regex(thalweg("inspect", "checkpoint", join(run, "checkpoints/step-00000021")).out, /every file is whole/);
  const evaluated = JSON.parse(thalweg("eval", run, "--json").out);
  t.true(evaluated.loss > 0 && evaluated.loss < 6);
  const generated = JSON.parse(thalweg("generate", run, "--prompt", "line", "--tokens", "8", "--json").out);
  t.true(generated.tokens.length <= 8);
  const again = JSON.parse(thalweg("generate", run, "--prompt", "line", "--tokens", "8", "--json").out);
  t.deepEqual(again.tokens, generated.tokens, "same seed, same text");
  t.regex(thalweg("compare", run, run, "--svg", join(folder, "c.svg")).out, /budget 1/);
  t.regex(readFileSync(join(folder, "c.svg"), "utf8"), /^<svg/);
});

test("inspect program lists the commands of a step", (t) => {
  const { code, out } = thalweg("inspect", "program", "configs/quickstart.yaml");
  t.is(code, 0);
  t.regex(out, /attentionBackward\(/);
  t.regex(out, /FLOPs/);
});

test("doctor names the instruction path", (t) => {
  const { code, out } = thalweg("doctor", "--json");
  t.is(code, 0);
  t.regex(out, /path (portable|avx2|avx512|amx)/);
});

test("bench train ends with one JSON line that has tokensPerSecond", (t) => {
  const { code, out } = thalweg(
    "bench",
    "train",
    "--preset",
    "quickstart",
    "--batch",
    "2",
    "--seq",
    "32",
    "--steps",
    "2",
    "--json",
  );
  t.is(code, 0);
  t.true(JSON.parse(out.trim().split("\n").at(-1)!).tokensPerSecond > 0);
});
