// Compiles every CUDA kernel with nvcc and holds it against native/cuda/registers.json: registers, shared memory and stack
// of each kernel by architecture. A spill, local memory, a serialised wgmma, an ignored setmaxnreg or a change of the table
// is a failure.
//   node tools/check-kernels.mjs [--architectures 80,90a | --all] [--update] [--only matmul]
// Results are kept in out/kernels by content, so only what changed is compiled again. No nvcc: says so and passes.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { shortName } from "./kernel_names.mjs";

const root = join(import.meta.dirname, "..");
const tablePath = join(root, "native/cuda/registers.json");
const cache = join(root, "out/kernels");
const everyArchitecture = ["80", "86", "89", "90a", "100", "120"];
const { values: options } = parseArgs({
  options: {
    architectures: { type: "string", default: "80,90a" },
    all: { type: "boolean", default: false },
    update: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const architectures = options.all ? everyArchitecture : options.architectures.split(",");

const version = spawnSync("nvcc", ["--version"], { encoding: "utf8" });
if (version.error) {
  console.log("kernels not checked: nvcc was not found (the CUDA toolkit 13.0 is needed for that)");
  process.exit(0);
}
const nvcc = /V(\d+\.\d+\.\d+)/.exec(version.stdout)[1];

const files = readdirSync(join(root, "native/cuda/kernels")).filter((f) => f.endsWith(".cu"));
const headers = ["native/cuda", "native/cuda/ptx", "native/cuda/kernels", "native/ops", "native/base"]
  .flatMap((dir) => readdirSync(join(root, dir)).map((f) => join(root, dir, f)))
  .filter((f) => /\.(h|cuh)$/.test(f))
  .sort();
const headersHash = createHash("sha256");
for (const h of headers) headersHash.update(readFileSync(h));
const headersDigest = headersHash.digest("hex");

function parse(log) {
  const kernels = {};
  let current = null;
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '(\S+)' for/.exec(line);
    if (entry) current = kernels[entry[1]] = { registers: 0, shared: 0, stack: 0 };
    const stack = /(\d+) bytes stack frame/.exec(line);
    if (stack && current) current.stack = Number(stack[1]);
    const used = /Used (\d+) registers.*?(?:, (\d+) bytes smem)?/.exec(line);
    if (used && current) {
      current.registers = Number(used[1]);
      current.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  const names = Object.keys(kernels);
  const demangled = spawnSync("c++filt", [], { input: names.join("\n"), encoding: "utf8" })
    .stdout.trim()
    .split("\n");
  return Object.fromEntries(names.map((n, i) => [shortName(demangled[i]), kernels[n]]));
}

/** One file for one architecture: { kernels } or { error }. */
async function compile(file, architecture) {
  const source = join(root, "native/cuda/kernels", file);
  const key = createHash("sha256")
    .update(headersDigest)
    .update(readFileSync(source))
    .update(nvcc)
    .digest("hex")
    .slice(0, 16);
  const kept = join(cache, `${basename(file, ".cu")}.${architecture}.${key}.json`);
  if (existsSync(kept)) return JSON.parse(readFileSync(kept, "utf8"));
  const args = [
    ...[
      "-std=c++20",
      "-O3",
      "--expt-relaxed-constexpr",
      `-I${root}`,
      `-gencode=arch=compute_${architecture},code=sm_${architecture}`,
    ],
    ...["-Xptxas", "-v,-warn-spills,-warn-lmem-usage", "-Werror", "all-warnings", "-cubin", "-o", "/dev/null", source],
  ];
  const log = await new Promise((done) => {
    const child = spawn("nvcc", args, { cwd: root });
    let text = "";
    child.stdout.on("data", (d) => (text += d));
    child.stderr.on("data", (d) => (text += d));
    child.on("close", (code) => done({ text, code }));
  });
  const told = log.text.split("\n").filter((l) => /\(C75\d\d\)|error|warning/i.test(l) && !/Compiling entry/.test(l));
  if (log.code !== 0 || told.length > 0) return { error: told.join("\n") || log.text };
  const result = { kernels: parse(log.text) };
  mkdirSync(cache, { recursive: true });
  writeFileSync(kept, JSON.stringify(result));
  return result;
}

const jobs = files
  .filter((f) => !options.only || f.includes(options.only))
  .flatMap((file) => architectures.map((architecture) => ({ file, architecture })))
  .filter(({ file, architecture }) => !file.startsWith("hopper_") || architecture === "90a");
const table = existsSync(tablePath) ? JSON.parse(readFileSync(tablePath, "utf8")) : { nvcc, kernels: {} };
const found = {};
const problems = [];
let next = 0;
async function worker() {
  while (next < jobs.length) {
    const { file, architecture } = jobs[next++];
    const { error, kernels } = await compile(file, architecture);
    if (error) problems.push(`${file} for sm_${architecture}:\n${error}`);
    for (const [name, use] of Object.entries(kernels ?? {})) {
      found[file] ??= {};
      found[file][name] ??= {};
      found[file][name][architecture] = [use.registers, use.shared, use.stack];
    }
  }
}
await Promise.all(Array.from({ length: availableParallelism() }, worker));

if (options.update && problems.length === 0) {
  const kernels = {};
  for (const file of files) {
    const kept = options.only && !file.includes(options.only) ? table.kernels[file] : found[file];
    if (kept) kernels[file] = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
    for (const [name, use] of Object.entries(kernels[file] ?? {}))
      kernels[file][name] = { ...(table.kernels[file]?.[name] ?? {}), ...use };
  }
  const lines = Object.entries(kernels).map(([file, list]) => {
    const rows = Object.entries(list).map(([name, use]) => `      ${JSON.stringify(name)}: ${JSON.stringify(use)}`);
    return `    ${JSON.stringify(file)}: {\n${rows.join(",\n")}\n    }`;
  });
  const about = "registers, bytes of static shared memory, bytes of stack of each kernel, by architecture";
  writeFileSync(
    tablePath,
    `{\n  "about": ${JSON.stringify(about)},\n  "nvcc": ${JSON.stringify(nvcc)},\n  "kernels": {\n${lines.join(",\n")}\n  }\n}\n`,
  );
} else if (table.nvcc === nvcc) {
  for (const { file, architecture } of jobs) {
    const expected = Object.entries(table.kernels[file] ?? {}).filter(([, use]) => use[architecture]);
    for (const name of new Set([...expected.map(([n]) => n), ...Object.keys(found[file] ?? {})])) {
      const was = table.kernels[file]?.[name]?.[architecture];
      const is = found[file]?.[name]?.[architecture];
      if (JSON.stringify(was) !== JSON.stringify(is))
        problems.push(
          `${name} on sm_${architecture}: [registers, shared, stack] are ${JSON.stringify(is ?? null)}, the table says ${JSON.stringify(was ?? null)}`,
        );
    }
  }
  if (problems.length > 0) problems.push("If the change is meant: node tools/check-kernels.mjs --all --update");
} else {
  console.log(`the table is of nvcc ${table.nvcc}, this is ${nvcc}: only spills and messages are checked`);
}
const count = Object.values(found).reduce((n, list) => n + Object.keys(list).length, 0);
for (const p of problems) console.error(p);
console.log(
  `${count} kernels for sm_${architectures.join(", sm_")}: ${problems.length === 0 ? "as the table says" : "FAIL"}`,
);
process.exit(problems.length === 0 ? 0 : 1);
