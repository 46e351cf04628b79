// Everything that needs a GPU, in parts, on a machine that has nothing but a driver (and PyTorch, when there is something
// to compare with). Measurements are on disk as they are made; run again, it goes on with what is left.
//   node tools/gpu/suite.mjs [--only conformance,kernels,parity,bench,peer] [--budget-seconds N] [--out DIR] [--from BUILD]
//   node tools/gpu/suite.mjs --only study [--work DIR] [--text DIR] ..: an experiment of many calls, only when asked for
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { describeSource } from "./source.mjs";
import { execute, failureOf, jsonLines } from "./suite/execute.mjs";
import { benchJobs, conformanceJobs, kernelJobs, parityJobs, peerJobs, peerMissing, placeOf } from "./suite/parts.mjs";
import { Budget, readJson, runPart, writeJson, writeWhole } from "./suite/results.mjs";
import { studyJobs, workFolder } from "./suite/study.mjs";
import { suiteTable } from "./suite/table.mjs";

const checks = ["conformance", "kernels", "parity", "bench", "peer"];
const parts = [...checks, "study"];

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        "budget-seconds": { type: "string", default: "3600" },
        out: { type: "string", default: "gpu-results" },
        from: { type: "string" },
        work: { type: "string" },
        text: { type: "string" },
      },
    });
    const only = values.only?.split(",") ?? checks;
    const unknown = only.filter((name) => !parts.includes(name));
    if (unknown.length > 0) fail(`--only ${unknown.join(",")}: the parts are ${parts.join(", ")}`);
    const budget = Number(values["budget-seconds"]);
    if (!(budget > 0)) fail(`--budget-seconds is ${values["budget-seconds"]}, expected a number above 0`);
    return { ...values, only, budget };
  } catch (error) {
    return fail(error.message);
  }
}

/** The build to run: --from, else that of a GPU, else that of the SIMT machine. */
function buildFolder(root, from) {
  if (from !== undefined) return resolve(root, from);
  return (
    ["out/cuda", "out/native"].map((name) => join(root, name)).find((dir) => existsSync(join(dir, "kernel_bench"))) ??
    join(root, "out/cuda")
  );
}

/** The device as the benchmark program names it; a driver that is absent is said here, before anything runs. */
function deviceOf(place) {
  const r = execute(place.root, place.kernelBench, ["--only", "nothing"], { seconds: 60 });
  const device = jsonLines(r.out)[0];
  if (!device) fail(`no device: ${failureOf(r)}`);
  return device;
}

async function main() {
  const o = options();
  const root = resolve(import.meta.dirname, "../..");
  let place;
  try {
    place = placeOf(root, buildFolder(root, o.from));
  } catch (error) {
    fail(error.message);
  }
  const subject = { ...describeSource(root), device: deviceOf(place) };
  const say = (line) => console.error(line);
  say(`${subject.device.name}, driver ${subject.device.driver}, commit ${subject.commit}`);
  const budget = new Budget(o.budget);
  const pathOf = (part) => join(o.out, `${part}.json`);
  const recordOf = (part) => (existsSync(pathOf(part)) ? readJson(pathOf(part)) : null);
  const jobsOf = {
    conformance: () => conformanceJobs(place),
    kernels: () => kernelJobs(place),
    parity: () => parityJobs(place),
    bench: () => benchJobs(place),
    peer: () => peerJobs(place, recordOf("bench")),
    study: () => studyJobs(place, { ...o, work: workFolder(root, place, o.work), subject, say }),
  };
  for (const part of parts.filter((name) => o.only.includes(name))) {
    const skipped = part === "peer" ? peerMissing(place) : null;
    if (skipped !== null) {
      say(`peer: skipped, ${skipped}`);
      writeJson(pathOf(part), { part, ...subject, complete: true, ok: true, skipped, left: [], results: {} });
      continue;
    }
    await runPart({ part, subject, jobs: jobsOf[part](), budget, path: pathOf(part), say });
  }
  const records = Object.fromEntries(parts.map((part) => [part, recordOf(part)]).filter(([, r]) => r !== null));
  const stale = Object.values(records).filter((r) => r.commit !== subject.commit || r.ptxHash !== subject.ptxHash);
  for (const { part } of stale) delete records[part];
  const whole = {
    benchmark: "GPU suite",
    ...subject,
    node: process.versions.node,
    command: `tools/gpu/suite.mjs ${process.argv.slice(2).join(" ")}`.trim(),
    parts: records,
  };
  writeJson(join(o.out, "suite.json"), whole);
  const table = suiteTable(whole);
  writeWhole(join(o.out, "suite.md"), table);
  console.log(table);
  const failed = Object.values(records).filter((r) => !r.ok);
  const left = Object.values(records).flatMap((r) => r.left.map((name) => `${r.part}: ${name}`));
  if (left.length > 0) say(`left for another run: ${left.join(", ")}`);
  process.exit(failed.length > 0 ? 1 : 0);
}

await main();
