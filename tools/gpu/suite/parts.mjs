// The parts of the suite as jobs: what is run, about how long it takes, what is kept of what it prints.
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allCases, compareAll } from "../conformance.mjs";
import { allTests, commandLine, execute, failureOf, jsonLines } from "./execute.mjs";

/** The paper's models, their sequences in a step of context 4096 (those of kernel_bench --predict); the ends of the range
 * before the kernels, the others after, so that a short loan of a GPU brings what matters most. */
const outerModels = [
  ["paper-0.1b", 8],
  ["paper-1.2b", 4],
];
const innerModels = [
  ["paper-0.3b", 8],
  ["paper-0.6b", 4],
];
const benchGroups = { matmul: 100, attention: 60, memory: 25 };
/** Clocks have settled by then, and a median of so many steps is steady. */
const measuredSteps = ["--warmup", "10", "--steps", "20"];

const thalweg = (place, args) => [process.execPath, [join(place.root, "dist/cli/main.js"), ...args]];

/** One JSON document from a command's output, with its command line; throws with what it said instead. */
function measured(place, command, args, options, lastLine = false) {
  const r = execute(place.root, command, args, { ...options, env: { ...place.env, ...options.env } });
  if (r.status !== 0) throw Object.assign(new Error(failureOf(r)), { status: r.status });
  return { ...JSON.parse(lastLine ? r.out.trim().split("\n").at(-1) : r.out), command: r.command };
}

/** run(args, env) of a program that may hang in a kernel: it has `each` seconds, and all runs together `seconds`. */
function limited(place, program, each, seconds) {
  const end = performance.now() + seconds * 1000;
  return (args, env = {}) =>
    execute(place.root, program, args, { seconds: Math.min(each, (end - performance.now()) / 1000), env });
}

export function conformanceJobs(place) {
  const run = (seconds) => {
    // On the host the second run is under another schedule of the machine: what does not depend on it agrees too.
    const gpuEnv = place.tiny ? { THALWEG_SIMT_SCHEDULE: "31" } : {};
    const [onHost, onGpu] = [place.hostConformance, place.gpuConformance].map((path) =>
      limited(place, path, 30, seconds),
    );
    const cases = compareAll(
      allCases((args) => onHost(args)),
      allCases((args) => onGpu(args, gpuEnv)),
    );
    const failed = cases.filter((c) => !c.ok);
    return {
      ok: failed.length === 0,
      ...(failed.length > 0 ? { error: failed.map((c) => `${c.name}: ${c.detail}`).join("\n") } : {}),
      commands: [place.hostConformance, place.gpuConformance].map((path) => commandLine(place.root, path, [])),
      cases,
    };
  };
  return [{ name: "PTX wrappers", seconds: 30, limit: 300, run }];
}

export function kernelJobs(place) {
  const pattern = place.tiny ? /^cuda_.*_test$/ : /^gpu_.*_test$/;
  const programs = readdirSync(place.programs).filter((name) => pattern.test(name));
  return programs.sort().map((name) => ({
    name,
    seconds: 20,
    limit: 240,
    run: (seconds) => {
      const program = join(place.programs, name);
      const summary = allTests(limited(place, program, 90, seconds));
      const ok = summary.failed === 0 && summary.passed > 0;
      const command = commandLine(place.root, program, []);
      return { ok, ...summary, command, ...(ok ? {} : { error: summary.failures.join("\n") || "no test ran" }) };
    },
  }));
}

export function parityJobs(place) {
  const sizes = place.tiny
    ? ["--preset", "quickstart", "--steps", "3", "--batch", "1", "--seq", "16"]
    : ["--preset", "10m", "--steps", "200"];
  const run = (seconds) => {
    const devices = `cpu,${place.device}`;
    const args = ["bench", "parity", "--devices", devices, "--precision", "bf16", ...sizes, "--json"];
    const [command, all] = thalweg(place, args);
    const r = execute(place.root, command, all, { seconds, env: place.env });
    const result = jsonLines(r.out)[0];
    if (!result) throw new Error(failureOf(r));
    const error = `mean difference ${result.meanDifference}, at most ${result.tolerance} expected`;
    return { ...result, command: r.command, ...(result.ok ? {} : { error }) };
  };
  return [{ name: "loss curves", seconds: place.tiny ? 10 : 240, run }];
}

const sizesOf = (preset, batch) => ["--preset", preset, "--batch", String(batch), "--seq", "4096"];

/** Every kernel of our training step, beside what the cost models expect of it. */
function profileOurs(place, preset, batch, seconds) {
  const sizes = place.tiny ? ["--preset", "quickstart", "--batch", "1", "--seq", "16"] : sizesOf(preset, batch);
  const step = [...sizes, "--precision", "bf16", "--steps", place.tiny ? "1" : "5"];
  const [command, args] = thalweg(place, ["bench", "ops", "--device", place.device, ...step, "--json"]);
  const { command: said, ...timings } = measured(place, command, args, { seconds });
  const found = execute(place.root, place.kernelBench, ["--predict-step"], { seconds: 60 });
  const expected = new Map(
    jsonLines(found.out).flatMap((p) => (p.model === preset ? [[`${p.op} ${p.shapes}`, p]] : [])),
  );
  const commands = Object.values(timings).map((line) => {
    const p = expected.get(`${line.op} ${line.shapes}`);
    return { ...line, ...(p ? { predictedMilliseconds: 1e3 * p.seconds, floorMilliseconds: 1e3 * p.floor } : {}) };
  });
  return { ok: commands.length > 0, command: said, commands };
}

/** Our training step, with further options; halves the micro-batch while the memory does not suffice. */
function trainOurs(place, preset, batch, seconds, more = []) {
  for (let microBatch = batch; ; microBatch /= 2) {
    const sizes = place.tiny
      ? ["--preset", "quickstart", "--batch", "1", "--seq", "16", "--warmup", "1", "--steps", "1"]
      : [...sizesOf(preset, batch), "--micro-batch", String(microBatch), ...measuredSteps];
    try {
      const how = ["--device", place.device, "--precision", "bf16", ...sizes, ...more];
      const [command, args] = thalweg(place, ["bench", "train", ...how, "--json"]);
      return measured(place, command, args, { seconds });
    } catch (error) {
      if (error.status !== 4 || microBatch === 1) throw error;
    }
  }
}

export function benchJobs(place) {
  const kernels = Object.entries(benchGroups).map(([group, seconds]) => ({
    name: group,
    seconds: place.tiny ? 10 : seconds,
    run: (limit) => {
      const args = ["--only", group, ...(place.tiny ? ["--tiny"] : [])];
      const r = execute(place.root, place.kernelBench, args, { seconds: limit });
      const [device, ...lines] = jsonLines(r.out);
      const ok = r.status === 0 && lines.length > 0;
      return { ok, device, lines, command: r.command, ...(ok ? {} : { error: failureOf(r) }) };
    },
  }));
  const steps = (models, note = "", more = []) =>
    models.map(([preset, batch]) => ({
      name: `train ${preset}${note}`,
      seconds: place.tiny ? 10 : 25,
      run: (limit) => ({ ok: true, ...trainOurs(place, preset, batch, limit, more) }),
    }));
  const anyOrder = (models) => steps(models, ", sums in any order", ["--gradient-sums", "any"]);
  const profiles = (models) =>
    models.map(([preset, batch]) => ({
      name: `kernels of ${preset}`,
      seconds: place.tiny ? 10 : 20,
      run: (limit) => profileOurs(place, preset, batch, limit),
    }));
  const [first, then] = place.tiny ? [[["quickstart", 1]], []] : [outerModels, innerModels];
  return [
    ...[...steps(first), ...profiles(first), ...anyOrder(first), ...kernels],
    ...[...steps(then), ...profiles(then), ...anyOrder(then)],
  ];
}

/** Why PyTorch cannot be measured here; null when it can. */
export function peerMissing(place) {
  const script = "import torch,sys;sys.exit(0 if torch.cuda.is_available() else 3)";
  const r = execute(place.root, place.python, place.peerDevice === "cpu" ? ["-c", "import torch"] : ["-c", script], {
    seconds: 120,
  });
  if (r.status === 0) return null;
  return r.status === 3 ? "PyTorch here has no CUDA" : `${place.python} has no PyTorch`;
}

/** Whole steps, ours and theirs in turn, and PyTorch on the shapes of the part `bench`, given its record. */
export function peerJobs(place, bench) {
  const device = ["--device", place.peerDevice];
  const kernels = Object.entries(benchGroups).flatMap(([group, seconds]) => {
    const lines = bench?.results?.[group]?.lines;
    if (!lines?.length) return [];
    const run = (limit) => {
      const folder = mkdtempSync(join(tmpdir(), "thalweg-peer-"));
      try {
        const file = join(folder, "lines.jsonl");
        writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
        const script = join(place.root, "tools/gpu/torch_peer.py");
        const r = execute(place.root, place.python, [script, ...device, file], { seconds: limit });
        const [about, ...found] = jsonLines(r.out);
        const ok = r.status === 0;
        const command = "python3 tools/gpu/torch_peer.py LINES";
        return { ok, about, lines: found, command, ...(ok ? {} : { error: failureOf(r) }) };
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    };
    return [{ name: group, seconds: place.tiny ? 30 : seconds, run }];
  });
  const steps = (models) =>
    models.map(([preset, batch]) => ({
      name: `train ${preset}`,
      seconds: place.tiny ? 60 : 150,
      run: (limit) => {
        const ours = trainOurs(place, preset, batch, limit);
        const script = join(place.root, "tools/bench/torch_llama.py");
        const sizes = place.tiny
          ? ["--preset", preset, "--batch", "1", "--seq", "16", "--warmup", "1", "--steps", "1"]
          : [...sizesOf(preset, batch), "--compile", ...measuredSteps];
        const args = [script, ...device, "--precision", "bf16", ...sizes];
        const theirs = measured({ ...place, env: {} }, place.python, args, { seconds: limit }, true);
        theirs.command = theirs.command.replace(place.python, "python3");
        return { ok: true, ours, theirs, ratio: ours.tokensPerSecond / theirs.tokensPerSecond };
      },
    }));
  const [first, then] = place.tiny ? [[["10m", 1]], []] : [outerModels, innerModels];
  return [...steps(first), ...kernels, ...steps(then)];
}

/** Where the programs of a build are: `build` is out/cuda, or out/native for the SIMT machine. Throws saying what is missing. */
export function placeOf(root, build) {
  const tiny = existsSync(join(build, "conformance_host"));
  const host = tiny ? join(build, "conformance_host") : join(root, "out/native/conformance_host");
  const place = {
    ...{ root, tiny, programs: build, python: process.env.THALWEG_PYTHON ?? "python3" },
    device: tiny ? "simt" : "cuda",
    peerDevice: tiny ? "cpu" : "cuda",
    hostConformance: host,
    gpuConformance: join(build, tiny ? "conformance_host" : "conformance"),
    kernelBench: join(build, "kernel_bench"),
    addon: join(build, "Release", tiny ? "thalweg_simt_addon.node" : "thalweg.node"),
  };
  const missing = ["hostConformance", "gpuConformance", "kernelBench", "addon"].filter(
    (key) => !existsSync(place[key]),
  );
  if (missing.length > 0)
    throw new Error(`not built: ${missing.map((key) => place[key]).join(", ")}
For a GPU: npm run build:cuda -- --tests && node tools/build-native.mjs --tests --target conformance_host
For the SIMT machine (--from out/native): node tools/build-native.mjs --tests`);
  return { ...place, env: { THALWEG_NATIVE: place.addon } };
}
