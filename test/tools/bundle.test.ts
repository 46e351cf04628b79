/** The bundle with small stand-ins for the programs and for Node: packed, unpacked without xz, run. */
import { execFile } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";

const root = join(import.meta.dirname, "../..");
const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "thalweg-bundle-test-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

function script(path: string, text: string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

/** A build whose programs print what the real ones print. */
function standIns(): { build: string; node: string } {
  const build = join(folder, "build");
  const device = `{"device":"simt","name":"stand-in","driver":"none"}`;
  script(join(build, "kernel_bench"), `echo '${device}'`);
  script(join(build, "conformance_host"), `echo '${device}'; echo '{"name":"shuffle","tolerance":0,"words":[1,2]}'`);
  script(join(build, "cuda_good_test"), "for i in 1 2 3; do echo \"ok   $i\"; done; echo 'tests: 3 passed, 0 failed'");
  script(join(build, "Release/thalweg_simt_addon.node"), "");
  script(join(folder, "node"), `exec ${process.execPath} "$@"`);
  return { build, node: join(folder, "node") };
}

const bundle = (...args: string[]) => run(process.execPath, [join(root, "tools/bundle.mjs"), ...args], { cwd: root });

/** A PATH with a bare Debian's tools only: everything the script may use but xz. */
function barePath(): string {
  const path = join(folder, "path");
  mkdirSync(path);
  const found = (name: string) => ["/usr/bin", "/bin"].map((dir) => join(dir, name)).find(existsSync);
  for (const name of ["sh", "dirname", "tar", "rm", "mkdir", "mv", "dpkg-deb", "python3"]) {
    const program = found(name);
    if (program) symlinkSync(program, join(path, name));
  }
  return path;
}

test("what is packed runs where it is unpacked, in parts, without xz on the PATH", async (t) => {
  t.timeout(600_000); // packing compresses twice
  if (!existsSync(join(root, "dist/cli/main.js")))
    await run(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.build.json"], { cwd: root });
  const { build, node } = standIns();
  const args = ["--from", build, "--node", node, "--level", "0", "--text-bytes", "5000000"];
  await bundle(...args, "--out", join(folder, "first"));
  await bundle(...args, "--out", join(folder, "second"));
  const packed = ["first", "second"].map((name) => readFileSync(join(folder, name, "thalweg-gpu.tar")));
  t.true(packed[0]!.equals(packed[1]!), "the same content gives the same bytes");

  const away = join(folder, "away");
  mkdirSync(away);
  await run("tar", ["-xf", join(folder, "first/thalweg-gpu.tar"), "-C", away]);
  const env = existsSync("/usr/bin/dpkg-deb") ? { PATH: barePath() } : process.env;
  const only = ["--only", "conformance,kernels", "--budget-seconds", "500", "--out", "results"];
  const { stdout } = await run(join(away, "thalweg-gpu/run.sh"), only, { cwd: away, env });
  t.regex(stdout, /1 of 1 PTX wrappers/);
  t.regex(stdout, /cuda_good_test \| 3 \| 0/);
  const suite = JSON.parse(readFileSync(join(away, "results/suite.json"), "utf8"));
  const manifest = JSON.parse(readFileSync(join(away, "thalweg-gpu/manifest.json"), "utf8"));
  t.is(suite.ptxHash, manifest.ptxHash);
  t.is(suite.commit, manifest.commit);
  const payload = join(away, "thalweg-gpu/payload");
  const cli = await run(process.execPath, [join(payload, "dist/cli/main.js"), "schedule", "--help"]);
  t.regex(cli.stdout, /export/, "the packages that the command line needs are there");
  t.false(readdirSync(join(payload, "node_modules")).includes("typescript"));
  for (const part of ["configs/studies/one-gpu/text.yaml", "data/packages/train/dataset.json"])
    t.true(existsSync(join(payload, part)), `${part}, for the study`);
});

test("without a build, it says which command to run first", async (t) => {
  const error = await t.throwsAsync(bundle("--from", join(folder, "nothing"), "--out", join(folder, "none")));
  t.regex((error as unknown as { stderr: string }).stderr, /npm run build:cuda -- --tests/);
});
