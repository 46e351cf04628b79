import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import test from "ava";
import { loaderArguments } from "../../ts/data/readers/answers.ts";
import { optionalPackagesInstalled } from "./support.ts";

const readers = pathToFileURL(join(import.meta.dirname, "../../ts/data/readers/index.ts")).href;
const rows = join(import.meta.dirname, "../fixtures/data/rows.parquet");
const node = (script: string) => ["--import=tsx", "--input-type=module", "-e", script];

test("a decoder is started with what loads modules, not with this process's script or debugger", (t) => {
  const all = [
    "--import=tsx",
    "--input-type=module",
    "-e",
    "run()",
    "--inspect=9229",
    "--require",
    "x.cjs",
    "-C",
    "dev",
  ];
  t.deepEqual(loaderArguments([...all, "--max-old-space-size=99"]), [
    "--import=tsx",
    "--require",
    "x.cjs",
    "-C",
    "dev",
  ]);
});

(optionalPackagesInstalled() ? test : test.skip)("a script given on the command line of Node reads parquet", (t) => {
  const script = `
    const { listFiles, readDocuments } = await import(${JSON.stringify(readers)});
    let rows = 0;
    for await (const _ of readDocuments(await listFiles([${JSON.stringify(rows)}]))) rows++;
    console.log(rows);`;
  const { stdout } = spawnSync(process.execPath, node(script), { encoding: "utf8" });
  t.is(stdout, "1000\n");
});

test("who has read enough of standard input waits for no more of it, packed or not", async (t) => {
  const script = `
    const { listFiles, readDocuments } = await import(${JSON.stringify(readers)});
    for await (const { text } of readDocuments(await listFiles(["-"]))) {
      console.log(text);
      break;
    }`;
  const lines = '{"text":"first"}\n{"text":"second"}\n';
  await Promise.all(
    [lines, gzipSync(lines)].map(async (input) => {
      // Its standard input stays open, as that of a generator that thinks.
      const child = spawn(process.execPath, node(script), { stdio: ["pipe", "pipe", "inherit"] });
      t.teardown(() => child.kill("SIGKILL"));
      const exit = new Promise((resolve) => child.once("exit", resolve));
      const said = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      child.stdin.write(input);
      t.is((await said.next()).value, "first");
      t.is(await exit, 0);
    }),
  );
});
