import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { ThalwegError } from "../../ts/base/errors.ts";
import { type Document, ReadReport } from "../../ts/data/documents.ts";
import { listFiles, type ReadOptions, readDocuments } from "../../ts/data/readers/index.ts";
import { loadTokenizer, type Tokenizer } from "../../ts/data/tokenizers/index.ts";
import { optionalPackagesInstalled, randomOf, seedOf, temporaryFolder, writeTree } from "./support.ts";

// 10,000 malformed inputs and whatever text comes out of them go through the readers and the native code behind them.
// `npm run test:sanitize` runs this file with an engine built with AddressSanitizer.

const fixtures = join(import.meta.dirname, "../fixtures");
/** Skipped where npm left the optional packages out. */
const packed = optionalPackagesInstalled() ? test : test.skip;
const jsonl = Array.from({ length: 60 }, (_, i) => `${JSON.stringify({ text: `line ${i} häß→😀` })}\n`).join("");

/** Small tokenizers: bytes over two kinds of words, and characters with byte fallback over marked spaces. */
const tokenizers = ["neox", "llama3", "llama"].map((name): Tokenizer => {
  const { tokenizer } = JSON.parse(readFileSync(join(fixtures, `tokenizers/${name}.json`), "utf8"));
  const folder = mkdtempSync(join(tmpdir(), "thalweg-malformed-"));
  try {
    return loadTokenizer(writeTree(folder, { "tokenizer.json": JSON.stringify(tokenizer) }), { threads: 2 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// A sanitizer is loaded before this process; those it starts decode parquet in JavaScript.
delete process.env.LD_PRELOAD;

/** Encodes raw bytes: every text becomes tokens of the vocabulary, by each tokenizer in turn. */
async function encode(t: ExecutionContext, texts: readonly Uint8Array[]): Promise<void> {
  for (const [turn, tokenizer] of tokenizers.entries()) {
    const own = texts.filter((_, i) => i % tokenizers.length === turn);
    const { ids, offsets } = await tokenizer.encodeBatch(own);
    t.is(offsets.length, own.length + 1);
    t.true(ids.every((id) => id < tokenizer.vocabSize));
  }
}

/** Adds the documents of a file to `found`, so that those before an error are there too. */
async function read(found: Document[], input: string, options: ReadOptions, report?: ReadReport): Promise<void> {
  for await (const document of readDocuments(await listFiles([input]), options, report)) found.push(document);
}

test("9,000 malformed lines are each counted, and every good line between them is read", async (t) => {
  const seed = seedOf(t);
  const random = randomOf(seed);
  const makers: (() => Buffer)[] = [
    () => Buffer.from("[".repeat(1 + random(5000))),
    () => Buffer.from(`${'{"text":'.repeat(1 + random(3000))}1${"}".repeat(random(3000))}`),
    () => Buffer.from(`{"text": "${"x".repeat(random(200))}`),
    () => Buffer.concat([Buffer.from('{"text":"'), Buffer.from([0xc0 + random(0x40), 0x22, 0x80 + random(0x7f)])]),
    () => Buffer.from(Array.from({ length: 1 + random(60) }, () => 0x80 + random(128))),
    () => Buffer.from(`{"text": ${["null", "1e999", "[]", "{}", "true", "NaN", "'x'"][random(7)]}}`),
    () => Buffer.from(`"${"y".repeat(3000 + random(20_000))}"`),
    () => Buffer.from(`{"text":"a\u0000${"\u0001".repeat(random(9))}"}`),
    () => Buffer.from(["null", "true", "0", '"text"', "{}", "[]", "\u0000", '{"text":"\\u12"}'][random(8)]!),
  ];
  const parts: Buffer[] = [];
  for (let i = 0; i < 9000; i++) {
    const line = makers[random(makers.length)]!();
    parts.push(Buffer.from(line.filter((byte) => byte !== 10)), Buffer.from(`\n{"text":"good ${i}"}\n`));
  }
  const folder = writeTree(temporaryFolder(t), { "a.jsonl.gz": gzipSync(Buffer.concat(parts)) });
  const report = new ReadReport(0.6);
  const found: Document[] = [];
  await read(found, folder, { maxRecordBytes: 16_384 }, report);
  t.is(report.bad, 9000);
  t.deepEqual(found.map((d) => d.id).slice(0, 3), ["a.jsonl.gz:2", "a.jsonl.gz:4", "a.jsonl.gz:6"]);
  t.is(found.length, 9000);
  // What is no text to a reader is bytes to a tokenizer.
  await encode(t, parts);
});

packed("1,000 truncated and damaged packed files end in an error that names them, or in their text", async (t) => {
  const random = randomOf(seedOf(t));
  const gz = gzipSync(jsonl);
  const zst = readFileSync(join(fixtures, "data/lines.jsonl.zst"));
  const parquet = readFileSync(join(fixtures, "data/rows.parquet"));
  const folder = temporaryFolder(t);
  const texts: Uint8Array[] = [];
  let refused = 0;
  for (let i = 0; i < 1000; i++) {
    // A damaged parquet file may cost a process, so there are fewer of them; parquet.test.ts has more.
    const [name, whole] = i % 200 === 0 ? ["x.parquet", parquet] : i % 2 ? ["x.jsonl.gz", gz] : ["x.jsonl.zst", zst];
    const truncated = random(2) === 0;
    const bytes = Buffer.from(truncated ? whole.subarray(0, random(whole.length)) : whole);
    if (!truncated) for (let n = 1 + random(3); n > 0; n--) bytes[random(bytes.length)]! ^= 1 << random(8);
    writeTree(folder, { [name]: bytes });
    const found: Document[] = [];
    const options = { maxBadShare: 1, decoderPatience: name === "x.parquet" ? 10 : 2 };
    const error = await read(found, join(folder, name), options).catch((caught: unknown) => caught);
    if (error !== undefined) {
      t.true(error instanceof ThalwegError, `${name}: ${error}`);
      const { code, message } = error as ThalwegError;
      t.true(message.includes(name) && /CORRUPT_DATA|BAD_INPUT/.test(code), message);
      refused++;
    }
    texts.push(bytes, ...found.slice(0, 20).map((document) => document.utf8));
  }
  t.true(refused > 600, `${refused} of 1000 refused`);
  await encode(t, texts);
});

packed(
  "a .zst that would keep its decoder busy for ever is given up and named, and the next one is read",
  async (t) => {
    // A Huffman table whose weights are described by one symbol of probability 1: it never uses up a bit.
    const endless = Buffer.from("28b52ffd000075000002810206f0030000000101010100", "hex");
    const folder = writeTree(temporaryFolder(t), {
      "endless.jsonl.zst": endless,
      "good.jsonl.zst": readFileSync(join(fixtures, "data/lines.jsonl.zst")),
    });
    const found: Document[] = [];
    await t.throwsAsync(read(found, join(folder, "endless.jsonl.zst"), { decoderPatience: 0.5 }), {
      code: "CORRUPT_DATA",
      message: /endless\.jsonl\.zst is truncated or damaged/,
    });
    await read(found, join(folder, "good.jsonl.zst"), {});
    t.is(found.length, 400);
  },
);
