import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { type Document, ReadReport } from "../../ts/data/documents.ts";
import { listFiles, type ReadFile, type ReadOptions, readBatches, readDocuments } from "../../ts/data/readers/index.ts";
import { optionalPackagesInstalled, temporaryFolder, writeTree } from "./support.ts";

/** 400 lines in two zstd frames, one with a checksum (zstd -19, zstd -3 --no-check), and 1000 rows in groups of 300 (snappy). */
const fixtures = join(import.meta.dirname, "../fixtures/data");
/** Skipped where npm left the optional packages out. */
const packed = optionalPackagesInstalled() ? test : test.skip;
const lines = Array.from({ length: 400 }, (_, i) => `line ${i} häß→😀 ${"lorem ipsum ".repeat(i % 50)}`);
const rows = Array.from({ length: 1000 }, (_, i) => `row ${i} häß→😀 ${"lorem ipsum ".repeat(i % 7)}`);
const jsonl = lines.map((text) => `${JSON.stringify({ text })}\n`).join("");

async function read(inputs: string[], options: ReadOptions = {}, report?: ReadReport): Promise<Document[]> {
  const all: Document[] = [];
  for await (const document of readDocuments(await listFiles(inputs, options), options, report)) all.push(document);
  return all;
}
const texts = (documents: Document[]) => documents.map((document) => document.text);

packed(
  "the same lines come out of .jsonl, .jsonl.gz, .json.gz, .jsonl.zst and several members of one file",
  async (t) => {
    const half = jsonl.length >> 1;
    const members = Buffer.concat([gzipSync(jsonl.slice(0, half)), gzipSync(jsonl.slice(half))]);
    const folder = writeTree(temporaryFolder(t), {
      "a.jsonl": jsonl,
      "b.jsonl.gz": gzipSync(jsonl),
      "c.json.gz": gzipSync(jsonl),
      "d.jsonl.gz": members,
      "e.jsonl.zst": readFileSync(join(fixtures, "lines.jsonl.zst")),
    });
    const report = new ReadReport(0);
    const found = await read([folder], { deduplicate: false }, report);
    t.is(found.length, 5 * lines.length);
    for (let i = 0; i < 5; i++) t.deepEqual(texts(found.slice(400 * i, 400 * (i + 1))), lines);
    t.is(found[400]!.id, "b.jsonl.gz:1");
    t.is(
      report.bytesDone,
      (await listFiles([folder])).reduce((sum, file) => sum + file.bytes, 0),
    );
  },
);

test("a packed text file is a document, or is split", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.txt.gz": gzipSync("one\n\ntwo") });
  t.deepEqual(texts(await read([folder])), ["one\n\ntwo"]);
  t.deepEqual(texts(await read([folder], { textSplit: "blank-line" })), ["one", "two"]);
});

packed("rows come out of parquet in order, across row groups, from any column", async (t) => {
  const file = join(fixtures, "rows.parquet");
  t.deepEqual(texts(await read([file])), rows);
  const report = new ReadReport(0.4);
  t.is((await read([file], { field: "note" }, report)).length, 666);
  t.is(report.bad, 334);
  t.regex(report.badExamples[0]!, /rows\.parquet:1: has no text in column "note"/);
  await t.throwsAsync(read([file], { field: "body" }), {
    code: "BAD_INPUT",
    message: /no column "body"; its columns are id, text, note/,
  });
});

packed("reading goes on at any place as if it had never stopped, in every kind of file", async (t) => {
  const folder = writeTree(temporaryFolder(t), {
    "a.jsonl": jsonl,
    "b.jsonl.gz": gzipSync(jsonl.replaceAll("line", "other")),
    "c.txt": lines.join("\n\n").replaceAll("line", "third"),
    "d.jsonl.zst": readFileSync(join(fixtures, "lines.jsonl.zst")),
    "e.parquet": readFileSync(join(fixtures, "rows.parquet")),
  });
  const files = await listFiles([folder]);
  const options = { textSplit: "blank-line", chunkBytes: 20_000 } as const;
  const state = () => ({ report: new ReadReport(0), seen: null });
  const batches = [];
  for await (const batch of readBatches(files, options, state())) batches.push(batch);
  t.true(batches.length >= 8, `${batches.length} batches`);
  const step = Math.ceil(batches.length / 8);
  for (const [i, { after, prefix }] of batches.entries()) {
    if (i % step !== 0) continue;
    const rest: string[] = [];
    const done: ReadFile[] = [];
    const resumed = { ...state(), from: { place: after, prefix }, onFile: (file: ReadFile) => done.push(file) };
    for await (const batch of readBatches(files, options, resumed)) rest.push(...batch.documents.map((d) => d.id));
    const expected = batches.slice(i + 1).flatMap((batch) => batch.documents.map((d) => d.id));
    t.deepEqual(rest, expected, `after batch ${i}`);
    for (const { file, sha256 } of done) t.is(sha256, createHash("sha256").update(readFileSync(file)).digest("hex"));
  }
});

test("a file that changed since is not gone on with", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.jsonl": jsonl });
  const files = await listFiles([folder]);
  const state = { report: new ReadReport(0), seen: null };
  const { value } = await readBatches(files, {}, state).next();
  const { after: place, prefix } = value!;
  for (const content of [jsonl.replace("line 3", "LINE 3"), jsonl.slice(0, 100)]) {
    writeTree(folder, { "a.jsonl": content });
    const again = readBatches(files, {}, { ...state, from: { place, prefix } });
    await t.throwsAsync(again.next(), { code: "BAD_INPUT", message: /a\.jsonl is not the file/ });
  }
});

packed("standard input gives lines or text, packed or not", (t) => {
  const script = `
    const { listFiles, readDocuments } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, "../../ts/data/readers/index.ts")).href)});
    const options = JSON.parse(process.argv.at(-1));
    const found = [];
    for await (const d of readDocuments(await listFiles(["-"]), options)) found.push([d.id, d.text]);
    console.log(JSON.stringify(found));`;
  const run = (input: string | Buffer, options: ReadOptions) => {
    const args = ["--import=tsx", "--input-type=module", "-e", script, JSON.stringify(options)];
    const { stdout } = spawnSync(process.execPath, args, { input, encoding: "utf8" });
    return JSON.parse(stdout) as [string, string][];
  };
  const two = '{"text":"a"}\n{"text":"b"}\n';
  t.deepEqual(run(two, {}), [
    ["stdin:1", "a"],
    ["stdin:2", "b"],
  ]);
  t.deepEqual(run(gzipSync(two), {}), run(two, {}));
  t.is(run(readFileSync(join(fixtures, "lines.jsonl.zst")), {}).length, 400);
  t.deepEqual(run("one\n\ntwo", { standardInputFormat: "text" }), [["stdin", "one\n\ntwo"]]);
  t.deepEqual(run("one\n\ntwo", { standardInputFormat: "text", textSplit: "blank-line" }).length, 2);
  t.deepEqual(run("", {}), []);
});

test("a record over the limit is rejected by its line, and what follows is read", async (t) => {
  const folder = writeTree(temporaryFolder(t), {
    "a.jsonl": `{"text":"one"}\n{"text":"${"x".repeat(3 * 2 ** 20)}"}\n{"text":"three"}\n${"y".repeat(5000)}`,
    "b.txt": "z".repeat(2000),
    "c/c.txt": `first\n\n${"w".repeat(2 ** 21)}\n\nlast`,
  });
  const report = new ReadReport(1);
  t.deepEqual(texts(await read([`${folder}/*`], { maxRecordBytes: 1000 }, report)), ["one", "three"]);
  t.deepEqual(
    report.badExamples.map((e) => e.slice(folder.length + 1, folder.length + 50)),
    [
      "a.jsonl:2: has 3145739 bytes, more than the large",
      "a.jsonl:4: has 5000 bytes, more than the largest ",
      "b.txt: has 2000 bytes, more than the largest reco",
    ],
  );
  const split = new ReadReport(1);
  const options = { maxRecordBytes: 1000, textSplit: "blank-line" } as const;
  t.deepEqual(texts(await read([join(folder, "c")], options, split)), ["first", "last"]);
  t.is(split.bad, 1);
});

test("inner fields are found by their path", async (t) => {
  const folder = writeTree(temporaryFolder(t), { "a.jsonl": '{"content":{"body":"deep"},"a.b":"flat"}\n' });
  t.deepEqual(texts(await read([folder], { field: "content.body" })), ["deep"]);
  t.deepEqual(texts(await read([folder], { field: "a.b" })), ["flat"]);
  await t.throwsAsync(read([folder], { field: "content.none" }), { code: "BAD_INPUT" });
  await t.throwsAsync(read([folder], { field: "__proto__" }), { code: "BAD_INPUT" });
});

packed("a truncated file is refused whatever its length", async (t) => {
  const folder = temporaryFolder(t);
  const refuses = async (tt: ExecutionContext, name: string, bytes: Buffer) => {
    writeTree(folder, { [name]: bytes });
    await tt.throwsAsync(read([join(folder, name)]), { code: "CORRUPT_DATA", message: /is truncated or damaged/ });
  };
  const gz = gzipSync(jsonl.slice(0, 300));
  for (let size = 1; size < gz.length; size++) await refuses(t, "a.jsonl.gz", gz.subarray(0, size));
  const zst = readFileSync(join(fixtures, "lines.jsonl.zst"));
  // Cut between its two frames it is whole: how many there should be is written nowhere.
  const frames = zst.indexOf(zst.subarray(0, 4), 4);
  for (let size = 1; size < zst.length; size += 7)
    if (size !== frames) await refuses(t, "a.jsonl.zst", zst.subarray(0, size));
});
