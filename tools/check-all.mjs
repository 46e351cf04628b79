// `npm run check:all`: what is too long for every commit. All 36 schedules of the SIMT machine instead of three, and every
// architecture of the CUDA kernels instead of two.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const jobs = String(availableParallelism());
const env = { ...process.env, THALWEG_ALL_SCHEDULES: "1" };
const steps = [
  [process.execPath, ["tools/build-native.mjs", "--tests"]],
  ["ctest", ["--test-dir", "out/native", "--output-on-failure", "--parallel", jobs, "-R", "^(simt|cuda)_"]],
  [process.execPath, ["tools/check-kernels.mjs", "--all"]],
];
let failed = 0;
for (const [command, args] of steps) {
  const { status } = spawnSync(command, args, { cwd: root, env, stdio: "inherit" });
  if (status !== 0) failed++;
}
console.log(failed === 0 ? "check:all passed" : `check:all: ${failed} of ${steps.length} parts failed`);
process.exit(failed === 0 ? 0 : 1);
