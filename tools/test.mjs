// `npm test`: builds, checks style and generated files, runs ctest and ava, and ends with one line "N passed, N failed".
// Options: --only lint,native,ts (comma-separated parts).
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1].split(",") : null;
const wanted = (part) => only === null || only.includes(part);
const bin = (name) => join(root, "node_modules/.bin", name);
let passed = 0;
let failed = 0;

/** Runs a command with its output shown; returns its text and whether it succeeded. */
function run(command, args, { quiet = false } = {}) {
  const r = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
    env: { ...process.env, FORCE_COLOR: "0" },
  });
  if (r.error) throw r.error;
  if (!quiet || r.status !== 0) process.stdout.write(r.stdout);
  return { ok: r.status === 0, text: r.stdout };
}

/** A check that counts as one test. */
function check(name, command, args) {
  const { ok } = run(command, args, { quiet: true });
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
  ok ? passed++ : failed++;
  return ok;
}

function build() {
  const parts = [
    ["tsc (dist)", bin("tsc"), ["-p", "tsconfig.build.json"]],
    ["native build", process.execPath, ["tools/build-native.mjs", "--tests"]],
  ];
  for (const [name, command, args] of parts) if (!check(name, command, args)) finish();
}

function lint() {
  check("biome", bin("biome"), ["check", "."]);
  check("clang-format", process.execPath, ["tools/format-native.mjs"]);
  check("tsc --noEmit", bin("tsc"), ["--noEmit"]);
  check("generated op headers", bin("tsx"), ["tools/generate-ops.ts", "--check"]);
  check("CUDA kernels (nvcc)", process.execPath, ["tools/check-kernels.mjs"]);
}

function native() {
  const { ok } = run("ctest", [
    "--test-dir",
    "out/native",
    "--output-on-failure",
    "-V",
    "-Q",
    "-O",
    "out/native/ctest.log",
  ]);
  const log = spawnSync("cat", [join(root, "out/native/ctest.log")], { encoding: "utf8", maxBuffer: 1 << 28 }).stdout;
  let ran = 0;
  // ctest numbers the lines of each test's output; a failing one's output stands there a second time, without numbers.
  for (const [, p, f] of log.matchAll(/^\d+: tests: (\d+) passed, (\d+) failed/gm)) {
    passed += Number(p);
    failed += Number(f);
    ran += Number(p) + Number(f);
  }
  // A crash prints no summary line: count it as a failure of its own.
  if (!ok && !/tests: \d+ passed, [1-9]\d* failed/.test(log)) failed++;
  const telling = log.split("\n").filter((l) => /FAIL|\*\*\*|:\d+: /.test(l));
  if (!ok) process.stdout.write(`${telling.join("\n")}\n`);
  console.log(`${ok ? "ok  " : "FAIL"} ctest: ${ran} native tests`);
}

function ts() {
  const { ok, text } = run(bin("ava"), ["--tap", ...process.argv.slice(2).filter((a) => a.startsWith("test/"))]);
  const count = (name) => Number(new RegExp(`^# ${name} (\\d+)`, "m").exec(text)?.[1] ?? 0);
  passed += count("pass");
  failed += count("fail");
  if (!ok && count("fail") === 0) failed++;
}

function finish() {
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

build();
if (wanted("lint")) lint();
if (wanted("native")) native();
if (wanted("ts")) ts();
finish();
