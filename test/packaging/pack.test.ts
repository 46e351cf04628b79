import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import test, { type ExecutionContext } from "ava";

const root = join(import.meta.dirname, "../..");
const run = promisify(execFile);

/** npm as a script, so that it runs without being found on a PATH. */
function npmCli(): string {
  const npm = (process.env.PATH ?? "")
    .split(delimiter)
    .map((dir) => join(dir, "npm"))
    .find(existsSync);
  if (!npm) throw new Error("npm is not on the PATH");
  return realpathSync(npm);
}

/** What npm adds to the environment of a script would reach the npm that is tested. */
function cleanEnvironment(more: Record<string, string>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.toLowerCase().startsWith("npm_"));
  return { ...Object.fromEntries(kept), ...more };
}

/** `npm run prebuild && npm pack` in a copy of what a release holds (the checkout's build/ stays as it is). */
async function pack(stage: string): Promise<string> {
  if (!existsSync(join(root, "dist/cli/main.js")))
    await run(process.execPath, [npmCli(), "run", "build:ts"], { cwd: root });
  for (const name of ["package.json", "dist", "configs", "docs", "README.md", "LICENSE"])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name), { recursive: true });
  for (const name of ["node_modules", "tools"]) symlinkSync(join(root, name), join(stage, name));
  await run(process.execPath, [npmCli(), "run", "prebuild"], { cwd: stage, env: cleanEnvironment({}) });
  await run(process.execPath, [npmCli(), "pack", "--silent"], { cwd: stage, env: cleanEnvironment({}) });
  return join(stage, readdirSync(stage).find((name) => name.endsWith(".tgz"))!);
}

/**
 * Installs a tarball into an empty project with an empty PATH. The dependencies are those of our lockfile, so that they
 * come out of npm's cache where there is no network.
 */
async function install(tarball: string, project: string): Promise<void> {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { version, dependencies, bin, engines, license } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const packages = Object.entries(
    lock.packages as Record<string, { dev?: boolean; devOptional?: boolean; optional?: boolean }>,
  );
  const needed = packages.filter(([path, p]) => path !== "" && !p.dev && !p.devOptional && !p.optional);
  const integrity = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`;
  const own = { name: "consumer", version: "1.0.0", dependencies: { thalweg: `file:${tarball}` } };
  writeFileSync(join(project, "package.json"), JSON.stringify({ ...own, private: true }));
  const thalweg = { version, resolved: `file:${tarball}`, integrity, license, dependencies, bin, engines };
  writeFileSync(
    join(project, "package-lock.json"),
    JSON.stringify({
      ...own,
      lockfileVersion: 3,
      requires: true,
      packages: { "": own, ...Object.fromEntries(needed), "node_modules/thalweg": thalweg },
    }),
  );
  const args = ["ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  await run(process.execPath, [npmCli(), ...args], {
    cwd: project,
    env: cleanEnvironment({ PATH: emptyPath(project) }),
  });
}

/** A PATH on which only node itself is found: no compiler, no shell, no tool. */
function emptyPath(project: string): string {
  const path = join(project, "path");
  mkdirSync(path, { recursive: true });
  if (!existsSync(join(path, "node"))) symlinkSync(process.execPath, join(path, "node"));
  return path;
}

/** Runs a script of the project, with the packed binary only and nothing else on the PATH. */
async function inProject(project: string, args: string[]): Promise<string> {
  const env = cleanEnvironment({ PATH: emptyPath(project), PREBUILDS_ONLY: "1", THALWEG_NATIVE: "", NODE_OPTIONS: "" });
  const { stdout } = await run(process.execPath, args, { cwd: project, env });
  return stdout;
}

async function folder(t: ExecutionContext, name: string): Promise<string> {
  const path = realpathSync(await mkdtemp(join(tmpdir(), `thalweg-${name}-`)));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

const playScript = `
import { Engine } from "./node_modules/thalweg/dist/engine/engine.js";
const engine = await Engine.create({ threads: 1 });
const f32 = (...values) => ({ dtype: "f32", shape: [values.length], data: Float32Array.from(values) });
const { operands } = await engine.runOp("axpy", [f32(1, 2, 3), f32(10, 10, 10)], [2]);
console.log(operands[1].join(" "));
await engine.dispose();
`;

const config = `
name: packed
model: { preset: quickstart }
data: { train: data }
batch: { length: 32, tokens: 128 }
schedule: { lr: { peak: 1e-3, warmup: 2 steps, wsd_s: { budgets: [10, 20], decay: { fraction: 0.2, of: cumulative, shape: inverse, floor: 0.1 } } } }
evaluation: { every: 10, sequences: 4 }
`;

test("the packed tarball installs with an empty PATH, plays an op and trains", async (t) => {
  t.timeout(600_000);
  const [stage, project] = [await folder(t, "stage"), await folder(t, "project")];
  const tarball = await pack(stage);
  await install(tarball, project);
  const shipped = join(project, "node_modules/thalweg");
  t.deepEqual(readdirSync(join(shipped, "prebuilds")), [`${process.platform}-${process.arch}`]);
  t.false(existsSync(join(shipped, "native")), "sources of the native side are not shipped");

  writeFileSync(join(project, "play.mjs"), playScript);
  t.is((await inProject(project, ["play.mjs"])).trim(), "12 14 16");

  const cli = join(shipped, "dist/cli/main.js");
  const text = readFileSync(join(root, "LICENSE"), "utf8");
  mkdirSync(join(project, "text"));
  for (let i = 0; i < 10; i++) writeFileSync(join(project, `text/${i}.txt`), `${i}\n${text.slice(i * 1000)}`);
  await inProject(project, [cli, "data", "prepare", "text", "--out", "data", "--validation", "0.2"]);
  writeFileSync(join(project, "config.yaml"), config);
  await inProject(project, [cli, "train", "config.yaml", "--quiet"]);
  const metrics = readFileSync(join(project, "runs/packed/metrics.jsonl"), "utf8");
  t.regex(metrics, /"step":20\b/);
});
