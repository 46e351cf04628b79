// `npm run bundle`: packs what a GPU machine needs that has nothing but a driver into one tarball of at most 45 MB.
//   node tools/bundle.mjs [--from out/cuda] [--out out/bundle] [--level 9] [--node FILE] [--text-bytes 12000000]
// The tarball holds run.sh, manifest.json and payload.deb. The payload is a Debian archive because bare Debian and Ubuntu
// images have dpkg-deb but no xz, and gzip alone would not fit; run.sh takes whichever of xz, dpkg-deb, python3 is there.
// --from out/native packs the build for the SIMT machine, to try the whole path without a GPU.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { describeSource } from "./gpu/source.mjs";

const LIMIT_BYTES = 45e6;
const root = join(import.meta.dirname, "..");
const NAME = "thalweg-gpu";

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

function run(command, args, options = {}) {
  const r = spawnSync(command, args, { maxBuffer: 1 << 28, ...options });
  if (r.status !== 0) fail(`${command} ${args.join(" ")}: ${r.error?.message ?? r.stderr?.toString()}`);
  return r.stdout;
}

/** Packages that dist needs when it runs: the dependencies of package.json and theirs, the optional ones left out. */
export function runtimePackages() {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const wanted = ([path, p]) => path.startsWith("node_modules/") && !p.dev && !p.devOptional && !p.optional;
  return Object.entries(lock)
    .filter(wanted)
    .map(([path]) => path);
}

/** Native programs of a build, with the host's side of the conformance test. */
function programs(from) {
  const simt = existsSync(join(from, "conformance_host"));
  const tests = simt ? /^cuda_.*_test$/ : /^gpu_.*_test$/;
  const addon = simt ? "Release/thalweg_simt_addon.node" : "Release/thalweg.node";
  const own = existsSync(from)
    ? readdirSync(from)
        .filter((name) => tests.test(name))
        .sort()
    : [];
  const files = [...own, simt ? "conformance_host" : "conformance", "kernel_bench", addon].map((name) =>
    join(from, name),
  );
  const host = join(root, "out/native/conformance_host");
  if (!simt) files.push(host);
  const missing = files.filter((file) => !existsSync(file));
  if (own.length > 0 && missing.length === 0) return { files, simt };
  const [build, hint] = simt
    ? ["the build for the SIMT machine", "  node tools/build-native.mjs --tests"]
    : [
        "the CUDA build",
        "  npm run build:cuda -- --tests\n  node tools/build-native.mjs --tests --target conformance_host",
      ];
  const what = missing.map((file) => relative(root, file)).join(", ") || `tests in ${relative(root, from)}`;
  return fail(
    `${build} is not whole: no ${what}. Run first:\n${hint}\nor pack the one for the SIMT machine: --from out/native`,
  );
}

function isElf(path) {
  const head = Buffer.alloc(4);
  const file = openSync(path, "r");
  readSync(file, head);
  closeSync(file);
  return head.toString("latin1") === "\x7fELF";
}

/** Copies a program without its symbols; a Node keeps those that addons look up. */
function copyProgram(from, to) {
  mkdirSync(join(to, ".."), { recursive: true });
  cpSync(from, to, { dereference: true });
  chmodSync(to, 0o755);
  if (isElf(to)) run("strip", [to]);
}

/** Text of the installed packages as token shards, for the study of the suite: where it runs these packages are not. */
function prepareText(folder, bytes) {
  const cli = join(root, "dist/cli/main.js");
  const sizes = ["--max-bytes", bytes, "--validation", "0.1"];
  run(process.execPath, [cli, "data", "prepare", "packages:node_modules", "--out", folder, ...sizes], { cwd: root });
}

/** Lays out the payload as a checkout has it, so that every tool finds its files in both. */
function stage(folder, o) {
  const from = resolve(root, o.from);
  const { files, simt } = programs(from);
  if (!existsSync(join(root, "dist/cli/main.js"))) fail("dist is not built. Run first: npm run build:ts");
  for (const file of files) {
    const inNative = file === join(root, "out/native/conformance_host");
    const place = simt || inNative ? "out/native" : "out/cuda";
    copyProgram(file, join(folder, place, relative(inNative ? join(root, "out/native") : from, file)));
  }
  const plain = (path) => !/\.(map|d\.[mc]?ts|tsbuildinfo)$/.test(path) && !path.includes("__pycache__");
  for (const name of [
    "dist",
    "package.json",
    "LICENSE",
    "configs",
    "native/cuda/ptx",
    "tools/gpu",
    "tools/bench",
    ...runtimePackages(),
  ])
    cpSync(join(root, name), join(folder, name), { recursive: true, dereference: true, filter: plain });
  if (Number(o["text-bytes"]) > 0) prepareText(join(folder, "data/packages"), o["text-bytes"]);
  copyProgram(resolve(o.node), join(folder, "bin/node"));
  const source = describeSource(root);
  writeFileSync(
    join(folder, "manifest.json"),
    `${JSON.stringify({ ...source, build: simt ? "simt" : "cuda", files: listing(folder) }, null, 1)}\n`,
  );
}

/** Paths and sizes, sorted. */
function listing(folder) {
  return readdirSync(folder, { recursive: true })
    .sort()
    .map((path) => ({ path, bytes: statSync(join(folder, path)) }))
    .filter(({ bytes }) => bytes.isFile())
    .map(({ path, bytes }) => ({ path, bytes: bytes.size }));
}

// The same content gives the same bytes: names sorted, no times, no owners.
const tarArguments = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"];

/** A member of an ar archive. */
function member(name, data) {
  const field = (text, width) => String(text).padEnd(width);
  const header = `${field(name, 16)}${field(0, 12)}${field(0, 6)}${field(0, 6)}${field("100644", 8)}${field(data.length, 10)}\`\n`;
  return Buffer.concat([Buffer.from(header), data, Buffer.from(data.length % 2 ? "\n" : "")]);
}

/** A Debian archive of a folder; { bytes, dataOffset, dataBytes } says where its data.tar.xz lies. */
function debianArchive(folder, scratch, level) {
  const control = join(scratch, "control");
  mkdirSync(control);
  writeFileSync(
    join(control, "control"),
    `Package: ${NAME}\nVersion: 0\nArchitecture: amd64\nMaintainer: none\nDescription: test bundle\n`,
  );
  const controlTar = gzipSync(run("tar", [...tarArguments, "-cf", "-", "-C", control, "."]));
  const tar = join(scratch, "data.tar");
  run("tar", [...tarArguments, "-cf", tar, "-C", folder, "."]);
  const data = run("xz", [`-${level}`, "--threads=1", "--stdout", tar], { maxBuffer: 1 << 30 });
  const before = Buffer.concat([
    Buffer.from("!<arch>\n"),
    member("debian-binary", Buffer.from("2.0\n")),
    member("control.tar.gz", controlTar),
  ]);
  return {
    bytes: Buffer.concat([before, member("data.tar.xz", data)]),
    dataOffset: before.length + 60,
    dataBytes: data.length,
  };
}

const runScript = ({ dataOffset, dataBytes }) => `#!/bin/sh
# Unpacks payload.deb beside this file, once, and runs the suite: ./run.sh [--only NAME[,NAME]] [--budget-seconds N] [--out DIR]
set -e
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
data() { tail -c +${dataOffset + 1} "$here/payload.deb" | head -c ${dataBytes}; }
if [ ! -d "$here/payload" ]; then
  rm -rf "$here/payload.tmp"
  mkdir "$here/payload.tmp"
  if command -v xz >/dev/null 2>&1; then
    data | xz -dc | tar -xf - -C "$here/payload.tmp"
  elif command -v dpkg-deb >/dev/null 2>&1; then
    dpkg-deb -x "$here/payload.deb" "$here/payload.tmp"
  elif command -v python3 >/dev/null 2>&1; then
    data | python3 -c "import sys,tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|xz').extractall(sys.argv[1])" "$here/payload.tmp"
  else
    echo "error: unpacking needs xz, dpkg-deb or python3; none was found" >&2
    exit 2
  fi
  mv "$here/payload.tmp" "$here/payload"
fi
exec "$here/payload/bin/node" "$here/payload/tools/gpu/suite.mjs" "$@"
`;

function main() {
  const { values: o } = parseArgs({
    options: {
      from: { type: "string", default: "out/cuda" },
      out: { type: "string", default: "out/bundle" },
      level: { type: "string", default: "9" },
      node: { type: "string", default: process.execPath },
      "text-bytes": { type: "string", default: "12000000" },
    },
  });
  const scratch = mkdtempSync(join(tmpdir(), "thalweg-bundle-"));
  try {
    const payload = join(scratch, "payload");
    mkdirSync(payload);
    stage(payload, o);
    const archive = debianArchive(payload, scratch, o.level);
    const top = join(scratch, NAME);
    mkdirSync(top);
    writeFileSync(join(top, "payload.deb"), archive.bytes);
    writeFileSync(join(top, "run.sh"), runScript(archive), { mode: 0o755 });
    cpSync(join(payload, "manifest.json"), join(top, "manifest.json"));
    const out = resolve(root, o.out);
    mkdirSync(out, { recursive: true });
    const tarball = join(out, `${NAME}.tar`);
    rmSync(tarball, { force: true });
    run("tar", [...tarArguments, "-cf", `${tarball}.tmp`, "-C", scratch, NAME]);
    const { size } = statSync(`${tarball}.tmp`);
    if (size > LIMIT_BYTES) {
      rmSync(`${tarball}.tmp`);
      fail(
        `the bundle would have ${(size / 1e6).toFixed(1)} MB, more than ${LIMIT_BYTES / 1e6}. Build for fewer GPUs: npm run build:cuda -- --tests --architectures "90a-real"`,
      );
    }
    run("mv", [`${tarball}.tmp`, tarball]);
    console.log(
      `${relative(root, tarball)}: ${(size / 1e6).toFixed(1)} MB. On the GPU machine: tar -xf ${NAME}.tar && ${NAME}/run.sh`,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) main();
