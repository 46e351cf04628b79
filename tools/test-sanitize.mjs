// `npm run test:sanitize`: the native tests, and malformed inputs through the addon, under AddressSanitizer +
// UndefinedBehaviorSanitizer.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { isAbsolute, join } from "node:path";

const root = join(import.meta.dirname, "..");

/** Runs a command with its output shown; whether it succeeded. */
function run(command, args, env = {}) {
  return spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } }).status === 0;
}

if (!run(process.execPath, ["tools/build-native.mjs", "--sanitize", "address,undefined"])) process.exit(1);

// Kernels broken on purpose prove the simulated GPU, not the host's memory: a product that nobody waits for writes where
// registers once were, and hundreds of broken runs are slow here.
const broken = "^simt_(attention|hopper_matmul_bugs|hopper_swiglu_bugs)_test$";
const parallel = ["--parallel", String(availableParallelism())];
// AMX and AVX-512 run under the sanitizers as they are; every path is covered by the tests' own loop over paths.
const native = run("ctest", ["--test-dir", "out/sanitize", "--output-on-failure", "-E", broken, ...parallel], {
  ASAN_OPTIONS: "detect_leaks=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
});

// Node itself is not instrumented, so the sanitizer's library has to be there before it; what V8 keeps to the end is no leak.
const { stdout } = spawnSync(process.env.CXX ?? "g++", ["-print-file-name=libasan.so"], { encoding: "utf8" });
const library = stdout.trim();
if (!isAbsolute(library)) console.log("the addon was not tested: this compiler has no libasan.so (use g++)");
const malformed =
  !isAbsolute(library) ||
  run(process.execPath, ["node_modules/ava/entrypoints/cli.mjs", "test/data/malformed.test.ts"], {
    LD_PRELOAD: library,
    THALWEG_NATIVE: join(root, "out/sanitize/Release/thalweg.node"),
    ASAN_OPTIONS: "detect_leaks=0",
    UBSAN_OPTIONS: "print_stacktrace=1",
  });
process.exit(native && malformed ? 0 : 1);
