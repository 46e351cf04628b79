import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { ThalwegError } from "../../ts/base/errors.ts";
import type { Document } from "../../ts/data/documents.ts";
import { nextAnswer } from "../../ts/data/readers/answers.ts";
import { listFiles, readDocuments } from "../../ts/data/readers/index.ts";
import { optionalPackagesInstalled, randomOf, seedOf, temporaryFolder, writeTree } from "./support.ts";

/** 1000 rows in groups of 300, snappy. */
const path = join(import.meta.dirname, "../fixtures/data/rows.parquet");
/** Skipped where npm left the optional packages out. */
const packed = optionalPackagesInstalled() ? test : test.skip;

async function read(file: string, decoderPatience: number): Promise<Document[]> {
  const found: Document[] = [];
  const options = { maxBadShare: 1, decoderPatience, deduplicate: false };
  for await (const document of readDocuments(await listFiles([file]), options)) found.push(document);
  return found;
}

/** A damaged copy: bits, bytes, runs of bytes, or its length; half of the damage lies in the footer. */
function damaged(whole: Buffer, random: (below: number) => number): Buffer {
  const bytes = Buffer.from(whole);
  const footer = whole.readUInt32LE(whole.length - 8) + 8;
  const place = () => (random(2) === 0 ? random(bytes.length) : bytes.length - 1 - random(footer));
  const extremes = [0, 1, 0x7f, 0x80, 0xff];
  for (let n = 1 + random(3); n > 0; n--) {
    const at = place();
    const kind = random(8);
    if (kind < 3) bytes[at]! ^= 1 << random(8);
    else if (kind < 5) bytes[at] = extremes[random(extremes.length)]!;
    else if (kind < 6)
      bytes.subarray(at, at + 1 + random(9)).fill(0xff); // numbers as large as they come
    else if (kind < 7) bytes.copy(bytes, at, place(), bytes.length);
    else return bytes.subarray(0, at);
  }
  return bytes;
}

packed(
  "200 damaged parquet files end in an error that names them, or in their text, and a good one is read after each",
  async (t) => {
    const random = randomOf(seedOf(t));
    const whole = readFileSync(path);
    const folder = writeTree(temporaryFolder(t), { "good.parquet": whole });
    t.is((await read(join(folder, "good.parquet"), 120)).length, 1000);
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      writeTree(folder, { "x.parquet": damaged(whole, random) });
      const result = await read(join(folder, "x.parquet"), 3).catch((error: unknown) => error);
      if (Array.isArray(result)) t.true(result.length <= 1000);
      else {
        t.true(result instanceof ThalwegError, `${i}: ${result}`);
        const { code, message } = result as ThalwegError;
        t.true(message.includes("x.parquet") && /^(CORRUPT_DATA|BAD_INPUT)$/.test(code), `${i}: ${code} ${message}`);
        refused++;
      }
      if (i % 5 === 0) t.is((await read(join(folder, "good.parquet"), 120)).length, 1000);
    }
    t.log(`${refused} refused`);
    t.true(refused > 50);
  },
);

/** The program that decodes, asked directly. */
function decoder(t: { teardown(end: () => void): void }): (question: object) => Promise<Record<string, unknown>> {
  const program = join(import.meta.dirname, "../../ts/data/readers/parquet_decoder.ts");
  const child = fork(program, [], { execArgv: ["--import=tsx"], serialization: "advanced" });
  t.teardown(() => child.kill("SIGKILL"));
  return async (question) => {
    child.send(question);
    return (await once(child, "message"))[0] as Record<string, unknown>;
  };
}

packed("rows with more text than is allowed, as a dictionary may hold, are counted and not sent", async (t) => {
  const ask = decoder(t);
  t.truthy((await ask({ open: { path, field: "text", largest: 20_000 } })).facts);
  const { tooLarge } = await ask({ rows: { rowStart: 0, rowEnd: 1000 } });
  t.true((tooLarge as number) > 20_000);
  t.is(((await ask({ rows: { rowStart: 0, rowEnd: 300 } })).texts as string[]).length, 300, "it goes on");
});

packed("a page larger than a column may be is refused before it is unpacked", async (t) => {
  const ask = decoder(t);
  await ask({ open: { path, field: "text", largest: 500 } });
  t.regex(String((await ask({ rows: { rowStart: 0, rowEnd: 300 } })).refused), /a page of \d+ bytes/);
});

test("a process that takes too much memory is given up before its patience ends", async (t) => {
  const script = `
    const kept = [];
    setInterval(() => kept.push(Buffer.alloc(8 << 20, 1)), 5);`;
  const child: ChildProcess = spawn(process.execPath, ["-e", script], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  const answer = await nextAnswer(child, 600, 200);
  t.deepEqual(answer, { error: "the decoder took more than 200 MiB of memory" });
});
