// `npm run test:emulator`: the code that nvcc makes, without a GPU. Every kernel's PTX, runtime_cuda.cu and the addon run on
// native/emulator: conformance cases against the SIMT machine, the kernel tests of a GPU, training steps against the CPU
// backend. Ends with one line "N passed, N failed". No nvcc: says so and passes.
//   node tools/test-emulator.mjs [--only conformance,kernels,steps] [--schedules N]    N seeds of the order of things
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "conformance,kernels,steps" },
    schedules: { type: "string", default: "1" },
  },
});
const wanted = options.only.split(",");
if (spawnSync("nvcc", ["--version"]).error) {
  console.log("the compiled kernels were not tested: nvcc was not found (the CUDA toolkit 13.0 is needed for that)");
  process.exit(0);
}

let passed = 0;
let failed = 0;
const count = (ok) => (ok ? passed++ : failed++);

/** Runs a command with its output shown; whether it succeeded. */
function run(command, args, env = {}) {
  return spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } }).status === 0;
}

function finish() {
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

function conformance() {
  const programs = ["out/native/conformance_host", "out/emulator/conformance"];
  count(run(process.execPath, ["tools/gpu/conformance.mjs", ...programs]));
}

function kernels(seed) {
  const log = join(root, "out/emulator/ctest.log");
  const jobs = String(availableParallelism());
  const which = ["-R", "^(gpu_.*|emulator_.*)_test$", "--parallel", jobs, "--timeout", "1200"];
  const ok = run("ctest", ["--test-dir", "out/emulator", "--output-on-failure", "-V", "-Q", "-O", log, ...which], {
    THALWEG_EMULATED_SEED: String(seed),
  });
  const text = readFileSync(log, "utf8");
  for (const [, p, f] of text.matchAll(/^\d+: tests: (\d+) passed, (\d+) failed/gm)) {
    passed += Number(p);
    failed += Number(f);
  }
  // A crash prints no summary line: it counts as a failure of its own.
  if (!ok && !/tests: \d+ passed, [1-9]\d* failed/.test(text)) failed++;
  if (!ok) console.log([...new Set(text.split("\n").filter((line) => /FAIL|\*\*\*|^\d+: {6}/.test(line)))].join("\n"));
}

/** Whole Programs through the addon, device `cuda` being the emulator. */
function steps(seed) {
  const files = ["simt", "hopper", "hopper_attention", "fuse"].map((name) => `test/device/${name}.test.ts`);
  count(
    run(process.execPath, ["node_modules/ava/entrypoints/cli.mjs", ...files], {
      THALWEG_TEST_DEVICE: "cuda",
      THALWEG_NATIVE: join(root, "out/emulator/Release/thalweg.node"),
      THALWEG_EMULATED_SEED: String(seed),
    }),
  );
}

const builds = [
  ["tools/build-native.mjs", "--emulator"],
  ["tools/build-native.mjs", "--tests", "--target", "conformance_host"],
];
for (const args of builds) if (!run(process.execPath, args)) process.exit(1);
if (wanted.includes("conformance")) conformance();
for (let seed = 1; seed <= Number(options.schedules); seed++) {
  if (wanted.includes("kernels")) kernels(seed);
  if (wanted.includes("steps")) steps(seed);
}
finish();
