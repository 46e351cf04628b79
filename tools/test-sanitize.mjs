// `npm run test:sanitize`: the native tests under AddressSanitizer + UndefinedBehaviorSanitizer.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const build = spawnSync(process.execPath, ["tools/build-native.mjs", "--sanitize", "address,undefined"], {
  cwd: root,
  stdio: "inherit",
});
if (build.status !== 0) process.exit(1);
// Kernels broken on purpose prove the simulated GPU, not the host's memory: a product that nobody waits for writes where
// registers once were, and hundreds of broken runs are slow here.
const broken = "^simt_(attention|hopper_matmul_bugs)_test$";
const r = spawnSync(
  "ctest",
  ["--test-dir", "out/sanitize", "--output-on-failure", "-E", broken, "--parallel", String(availableParallelism())],
  {
    cwd: root,
    stdio: "inherit",
    // AMX and AVX-512 run under the sanitizers as they are; every path is covered by the tests' own loop over paths.
    env: { ...process.env, ASAN_OPTIONS: "detect_leaks=1", UBSAN_OPTIONS: "print_stacktrace=1" },
  },
);
process.exit(r.status ?? 1);
