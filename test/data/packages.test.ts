import { join } from "node:path";
import test from "ava";
import { ReadReport } from "../../ts/data/documents.ts";
import { listFiles, readDocuments } from "../../ts/data/readers/index.ts";
import { temporaryFolder, writeTree } from "./support.ts";

const line = "A line that somebody wrote, of the usual length.\n";
const file = (seed: string) => `${seed}\n${line.repeat(20)}`;

test("packages give documentation and sources, grouped by package name, sorted by path", async (t) => {
  const root = writeTree(temporaryFolder(t), {
    "nm/b/package.json": "{}",
    "nm/b/README.md": file("readme"),
    "nm/b/LICENSE.md": file("licence"),
    "nm/b/lib/x.d.ts": file("types"),
    "nm/b/lib/x.min.js": `var a=${"1+".repeat(2000)}1;`,
    "nm/b/lib/long.js": "x".repeat(300_000),
    "nm/b/lib/zero.js": `${file("zero")}\0`,
    "nm/b/lib/latin1.js": Buffer.from(file("f\xfcr"), "latin1"),
    "nm/b/short.js": "short",
    "nm/b/data.json": file("data"),
    "nm/b/node_modules/a/package.json": "{}",
    "nm/b/node_modules/a/old.mjs": file("old a"),
    "nm/@s/c/package.json": "{}",
    "nm/@s/c/index.js": file("scoped"),
    "nm/a/package.json": "{}",
    "nm/a/index.js": file("a"),
    "nm/linux-only/package.json": '{"os":["linux"]}',
    "nm/linux-only/index.js": file("linux"),
    "nm/.bin/tool.js": file("tool"),
    "nm/no-manifest/index.js": file("nothing"),
  });
  const files = await listFiles([`packages:${join(root, "nm")}`]);
  t.deepEqual(
    files.map(({ name, group }) => [name, group]),
    [
      ["packages/@s/c/index.js", "@s/c"],
      ["packages/a/index.js", "a"],
      ["packages/b/README.md", "b"],
      ["packages/b/lib/x.d.ts", "b"],
      ["packages/b/node_modules/a/old.mjs", "a"],
    ],
  );
});

test("the packages installed here give more than 3 MB of text, the same each time", async (t) => {
  const take = async () => {
    const report = new ReadReport(0);
    const all: string[] = [];
    let bytes = 0;
    for await (const document of readDocuments(await listFiles(["packages:node_modules"]), {}, report)) {
      bytes += Buffer.byteLength(document.text);
      all.push(document.id);
      t.true(document.group.length > 0);
    }
    t.is(report.bad, 0);
    return { all, bytes };
  };
  const first = await take();
  t.true(first.bytes > 3e6, `${first.bytes} bytes`);
  t.deepEqual(first.all, first.all.toSorted());
  t.deepEqual(await take(), first);
});

test("a folder without packages is refused, with what to do", async (t) => {
  await t.throwsAsync(listFiles([`packages:${temporaryFolder(t)}`]), { code: "BAD_INPUT", message: /npm ci/ });
});
