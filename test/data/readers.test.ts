import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { type Document, ReadReport } from "../../ts/data/documents.ts";
import { globRegExp } from "../../ts/data/readers/globs.ts";
import { listFiles, type ReadOptions, readDocuments } from "../../ts/data/readers/index.ts";
import { temporaryFolder, writeTree } from "./support.ts";

async function read(inputs: string[], options: ReadOptions = {}, report?: ReadReport): Promise<Document[]> {
  const all: Document[] = [];
  for await (const document of readDocuments(await listFiles(inputs, options), options, report)) all.push(document);
  return all;
}

const texts = (documents: Document[]) => documents.map((document) => document.text);
const ids = (documents: Document[]) => documents.map((document) => document.id);
const tree = (t: ExecutionContext, files: Record<string, string | Buffer>) => writeTree(temporaryFolder(t), files);

test("a folder gives its text files sorted by path, without hidden and installed ones", async (t) => {
  const folder = tree(t, {
    "b.txt": "bee",
    "a/z.md": "zed",
    "a/b.jsonl": '{"text":"one"}\n\n{"text":"two"}',
    "a.txt": "\ufeffmark dropped",
    "c.png": "no",
    ".git/x.txt": "no",
    "node_modules/p/x.txt": "no",
  });
  const documents = await read([folder]);
  t.deepEqual(ids(documents), ["a.txt", "a/b.jsonl:1", "a/b.jsonl:3", "a/z.md", "b.txt"]);
  t.deepEqual(texts(documents), ["mark dropped", "one", "two", "zed", "bee"]);
  t.is(documents[1]!.source, join(folder, "a/b.jsonl"));
  t.deepEqual(ids(await read([folder], { extensions: [".md"] })), ["a/z.md"]);
});

test("globs match within and across folders", async (t) => {
  const folder = tree(t, { "a/x.txt": "1", "a/b/y.txt": "2", "a/b/z.md": "3", "w.txt": "4" });
  t.deepEqual(ids(await read([`${folder}/a/*.txt`])), ["x.txt"]);
  t.deepEqual(ids(await read([`${folder}/**/*.txt`])), ["a/b/y.txt", "a/x.txt", "w.txt"]);
  t.deepEqual(ids(await read([`${folder}/a/b/[yz].{md,txt}`])), ["y.txt", "z.md"]);
  t.true(globRegExp("a+b(1)?.txt").test("a+b(1)c.txt"));
  t.false(globRegExp("*.txt").test("a/b.txt"));
  await t.throwsAsync(read([`${folder}/*.none`]), { code: "BAD_INPUT", message: /matches no file/ });
  await t.throwsAsync(read([`${folder}/none`]), { code: "BAD_INPUT", message: /does not exist/ });
});

test("documents met before are dropped, in whatever file they come again", async (t) => {
  const folder = tree(t, { "a.txt": "same", "b.txt": "same", "c.jsonl": '{"text":"same"}\n{"text":"new"}\n' });
  const report = new ReadReport(0);
  t.deepEqual(ids(await read([folder], {}, report)), ["a.txt", "c.jsonl:2"]);
  t.is(report.duplicates, 2);
  t.is((await read([folder], { deduplicate: false })).length, 4);
});

test("bad lines are counted, quoted with file and line, and fatal above the stated share", async (t) => {
  const good = Array.from({ length: 98 }, (_, i) => JSON.stringify({ body: `text ${i}` }));
  const bytes = Buffer.concat([Buffer.from(`${good.join("\n")}\n{"body": 5}\n`), Buffer.from([0x22, 0xff, 0x22])]);
  const folder = tree(t, { "a.jsonl": bytes });
  const report = new ReadReport(0.02);
  t.is((await read([folder], { field: "body" }, report)).length, 98);
  t.deepEqual([report.documents, report.bad], [98, 2]);
  t.deepEqual(report.badExamples, [
    `${folder}/a.jsonl:99: has no text in field "body": {"body": 5}`,
    `${folder}/a.jsonl:100: is not UTF-8: "\ufffd"`,
  ]);
  const error = await t.throwsAsync(read([folder], { field: "body", maxBadShare: 0.019 }), { code: "BAD_INPUT" });
  t.regex(error!.message, /2 of 100 documents \(2\.00%\).*1\.9% allowed:\n {2}.*a\.jsonl:99/s);
  await t.throwsAsync(read([folder], { field: "text" }), { message: /100 of 100.*no text in field "text"/s });
});

test("a wrong field fails early, not at the end", async (t) => {
  const folder = tree(t, { "a.jsonl": '{"content":"x"}\n'.repeat(300_000) });
  const report = new ReadReport(0.01);
  await t.throwsAsync(read([folder], {}, report), { message: /\d+ of \d+ documents \(100%\)/ });
  t.true(report.bad < 100_000, `${report.bad}`);
});

test("a file that is not UTF-8 is counted as bad, and so is one part of it when it is being split", async (t) => {
  const folder = tree(t, { "a.txt": Buffer.from([0x66, 0xfc, 0x72]), "b.txt": "good" });
  const report = new ReadReport(0.5);
  t.deepEqual(texts(await read([folder], {}, report)), ["good"]);
  t.deepEqual(report.badExamples, [`${folder}/a.txt: is not UTF-8`]);
  const parts = tree(t, { "a.txt": Buffer.from("one\n\n\xff\n\ntw\xf6\n\nthree", "latin1") });
  const split = new ReadReport(0.5);
  t.deepEqual(texts(await read([parts], { textSplit: "blank-line" }, split)), ["one", "three"]);
  t.deepEqual(split.badExamples, [`${parts}/a.txt:2: is not UTF-8`, `${parts}/a.txt:3: is not UTF-8`]);
});

test("text files split at <|endoftext|> or blank lines", async (t) => {
  const folder = tree(t, {
    "eot.txt": "one\nstill one\n<|endoftext|>\ntwo\n<|endoftext|><|endoftext|>three",
    "blank.txt": "\n\none\nstill one\n\ntwo\r\n \t\r\n\r\n  three\n\n",
  });
  const split = await read([join(folder, "eot.txt")], { textSplit: "endoftext" });
  t.deepEqual(texts(split), ["one\nstill one", "two", "three"]);
  t.deepEqual(ids(split), ["eot.txt#1", "eot.txt#2", "eot.txt#3"]);
  t.deepEqual(texts(await read([join(folder, "blank.txt")], { textSplit: "blank-line" })), [
    "one\nstill one",
    "two",
    "  three",
  ]);
});

test("splits and lines do not depend on where the file is cut into chunks", async (t) => {
  // Documents of 0 to 40 kB of multi-byte text cross the reader's chunks of 1 MiB at every kind of place.
  const random = fc.sample(fc.integer({ min: 1, max: 40_000 }), { numRuns: 300, seed: 11 });
  const all = random.map((size, i) => `${i} ${"häß→😀x".repeat(size / 9)}`);
  const folder = tree(t, {
    "a.jsonl": all.map((text) => JSON.stringify({ text })).join("\n"),
    "eot.txt": all.join("<|endoftext|>"),
    "blank.txt": all.join("\n \n\n"),
  });
  const report = new ReadReport(0);
  t.deepEqual(texts(await read([join(folder, "a.jsonl")], {}, report)), all);
  t.deepEqual(texts(await read([join(folder, "eot.txt")], { textSplit: "endoftext" }, report)), all);
  t.deepEqual(texts(await read([join(folder, "blank.txt")], { textSplit: "blank-line" }, report)), all);
  const files = await listFiles([folder]);
  t.is(
    report.bytesDone,
    files.reduce((sum, file) => sum + file.bytes, 0),
  );
});

test("a separator that lies across two chunks is found, wherever it is cut", async (t) => {
  const chunk = 2 ** 20;
  const folder = temporaryFolder(t);
  const cases = [
    { textSplit: "endoftext", separator: "<|endoftext|>" },
    { textSplit: "blank-line", separator: "\r\n \r\n\t\n" },
  ] as const;
  for (const { textSplit, separator } of cases) {
    for (let cut = 0; cut <= separator.length; cut++) {
      const first = "x".repeat(chunk - cut);
      writeTree(folder, { "a.txt": `${first}${separator} second` });
      const got = texts(await read([join(folder, "a.txt")], { textSplit }));
      t.true(got.length === 2 && got[0] === first && got[1] === " second", `${textSplit} cut at ${cut}`);
    }
  }
});
