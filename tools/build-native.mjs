// Configures and builds the native side with CMake into out/native, then puts the addon where the loader looks.
// Options: --tests (native tests too), --sanitize address,undefined, --debug, --target NAME,
// --cuda (the GPU backend too, into out/cuda), --architectures "90a-real" (only these GPUs),
// --emulator (the GPU backend's PTX on native/emulator, with tests, into out/emulator; the loader's addon stays).
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const args = process.argv.slice(2);
const flag = (name) => args.includes(name);
const value = (name) => (flag(name) ? args[args.indexOf(name) + 1] : undefined);

function run(command, commandArgs) {
  const r = spawnSync(command, commandArgs, { cwd: root, stdio: "inherit" });
  if (r.error?.code === "ENOENT") {
    console.error(`error: ${command} was not found. Building needs CMake >= 3.22 and a C++20 compiler (g++ >= 12):
  Debian/Ubuntu: apt-get install cmake g++        Fedora/RHEL 9: dnf install cmake gcc-toolset-12-gcc-c++
  Or install a release, which brings a prebuilt binary and needs no compiler.`);
    process.exit(1);
  }
  if (r.status !== 0) process.exit(r.status ?? 1);
}

const sanitize = value("--sanitize") ?? "";
const emulator = flag("--emulator");
const tests = flag("--tests") || emulator || sanitize !== "";
// Without tests only the addon is built, and a folder configured with tests keeps them.
const target = value("--target") ?? (tests ? undefined : "thalweg");
const cuda = flag("--cuda");
const dir =
  value("--dir") ?? (sanitize ? "out/sanitize" : emulator ? "out/emulator" : cuda ? "out/cuda" : "out/native");
if ((cuda || emulator) && spawnSync("nvcc", ["--version"]).error) {
  console.error(`error: nvcc was not found. The CUDA backend needs the CUDA toolkit 13.0 or newer, with nvcc on the PATH;
  running it needs only a driver. \`npm run build\` builds the CPU engine without it.`);
  process.exit(1);
}
run("cmake", [
  "-S",
  ".",
  "-B",
  dir,
  `-DCMAKE_BUILD_TYPE=${flag("--debug") ? "Debug" : "Release"}`,
  `-DTHALWEG_SANITIZE=${sanitize}`,
  ...(tests ? ["-DTHALWEG_TESTS=ON"] : []),
  "-DTHALWEG_ADDON=ON",
  `-DTHALWEG_CUDA=${cuda ? "ON" : "OFF"}`,
  `-DTHALWEG_EMULATOR=${emulator ? "ON" : "OFF"}`,
  ...(value("--architectures") ? [`-DTHALWEG_CUDA_ARCHITECTURES=${value("--architectures")}`] : []),
  `-DTHALWEG_EMULATE_TILES=${sanitize ? "ON" : "OFF"}`,
]);
run("cmake", ["--build", dir, "--parallel", String(availableParallelism()), ...(target ? ["--target", target] : [])]);

if (!sanitize && !emulator && !value("--target")) {
  mkdirSync(join(root, "build/Release"), { recursive: true });
  const to = join(root, "build/Release/thalweg.node");
  copyFileSync(join(root, dir, "Release/thalweg.node"), `${to}.tmp`);
  renameSync(`${to}.tmp`, to); // a running process keeps its mapping of the old file
}
