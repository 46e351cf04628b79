import { appendFileSync, copyFileSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { ThalwegError } from "../../ts/base/errors.ts";
import { datasetsIn, openDataset } from "../../ts/data/dataset.ts";
import { headerBytes, layoutOf, sha256 } from "../../ts/data/shard_format.ts";
import { type DatasetManifest, manifestChecksum } from "../../ts/data/shards.ts";
import { counting, makeDataset, namedTokenizer, temporaryFolder, writeDataset } from "./support.ts";

const shard = "shard-00000.bin";

test("tokens and documents come back as written, over any cut into shards", async (t) => {
  const documents = fc.array(fc.array(fc.nat(65535), { maxLength: 40 }), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(
      documents,
      fc.integer({ min: 1, max: 100 }),
      fc.constantFrom(300, 70000),
      async (all, size, vocab) => {
        const kept = all.map((document) => document.map((token) => token % vocab));
        const dataset = await makeDataset(t, kept, {
          shardTokens: size,
          tokenizer: namedTokenizer(vocab),
          cacheBytes: 0,
        });
        t.is(dataset.manifest.tokenType, vocab > 65536 ? "uint32" : "uint16");
        t.deepEqual([dataset.tokens, dataset.documents], [kept.flat().length, kept.length]);
        const whole = new Int32Array(dataset.tokens);
        await dataset.read(0, dataset.tokens, whole);
        t.deepEqual([...whole], kept.flat());
        for (const [i, document] of kept.entries()) t.deepEqual([...(await dataset.document(i))], document);
        await dataset.verify();
      },
    ),
    { numRuns: 40 },
  );
});

test("ids beyond 65535 and shards beyond one checksum block are kept", async (t) => {
  const tokens = Array.from({ length: 600_000 }, (_, i) => 100_000 + (i % 77_777));
  const dataset = await makeDataset(t, [tokens], { tokenizer: namedTokenizer(200_000) });
  const part = new Int32Array(5);
  await dataset.read(262_143, 5, part);
  t.deepEqual([...part], tokens.slice(262_143, 262_148));
  await dataset.verify();
});

test("the same documents give the same files, byte for byte", async (t) => {
  const folders = [join(temporaryFolder(t), "a"), join(temporaryFolder(t), "b")];
  for (const folder of folders) {
    await mkdir(folder);
    await writeDataset(folder, [counting(200), counting(100)], 150, namedTokenizer(65536));
  }
  const [a, b] = folders.map((folder) => readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  t.deepEqual(a, b);
  t.is(a!.length, 3);
});

/** A dataset of two shards in a folder, to be damaged. */
async function victim(t: ExecutionContext): Promise<string> {
  const folder = join(temporaryFolder(t), "data");
  await mkdir(folder);
  const documents = Array.from({ length: 40 }, (_, i) => counting(15_000 + i));
  await writeDataset(folder, documents, 560_000, namedTokenizer(65536));
  return folder;
}

async function refused(t: ExecutionContext, folder: string, file: string, message: RegExp, verify = false) {
  const error = await t.throwsAsync(openDataset(folder, { verify }).then((dataset) => dataset.close()));
  t.true(error instanceof ThalwegError);
  t.is((error as ThalwegError).code, "CORRUPT_DATA");
  t.true(error!.message.startsWith(join(folder, file)), error!.message);
  t.regex(error!.message, message);
}

function flip(path: string, byte: number): void {
  const bytes = readFileSync(path);
  bytes[byte]! ^= 0x10;
  writeFileSync(path, bytes);
}

test("a flipped bit is refused by name in every region of a shard", async (t) => {
  const folder = await victim(t);
  const path = join(folder, shard);
  const pristine = readFileSync(path);
  const manifest = JSON.parse(readFileSync(join(folder, "dataset.json"), "utf8")) as DatasetManifest;
  const { tokens, documents } = manifest.shards[0]!;
  const { indexOffset, tableOffset, blocks, fileBytes } = layoutOf({ type: "uint16", tokens, documents });
  t.is(blocks, 2);
  const atOpen: [number, RegExp][] = [
    [0, /foreign/],
    [8, /damaged header/],
    [16, /damaged header/],
    [45, /damaged header/],
    [headerBytes - 1, /damaged header/],
    [tableOffset, /checksum table is damaged/],
    [fileBytes - 1, /checksum table is damaged/],
  ];
  for (const [byte, message] of atOpen) {
    flip(path, byte);
    await refused(t, folder, shard, message);
    writeFileSync(path, pristine);
  }
  for (const byte of [headerBytes, headerBytes + 2 ** 20, indexOffset - 1, indexOffset + 9, tableOffset - 1]) {
    flip(path, byte);
    await refused(t, folder, shard, /is damaged: bytes \d+\.\.\d+ do not match/, true);
    await using dataset = await openDataset(folder);
    await t.throwsAsync(() => dataset.read(0, 8, new Int32Array(8)), { code: "CORRUPT_DATA" }, "when it is read");
    writeFileSync(path, pristine);
  }
  await (await openDataset(folder, { verify: true })).close();
});

test("a flipped bit anywhere in a shard is found by verify", async (t) => {
  const folder = await victim(t);
  const path = join(folder, "shard-00001.bin");
  const pristine = readFileSync(path);
  await fc.assert(
    fc.asyncProperty(fc.nat(pristine.length - 1), async (byte) => {
      flip(path, byte);
      await refused(t, folder, "shard-00001.bin", /damaged|foreign/, true);
      writeFileSync(path, pristine);
    }),
    { numRuns: 30 },
  );
});

test("a truncated, padded, empty or missing shard is refused at opening", async (t) => {
  const folder = await victim(t);
  const path = join(folder, shard);
  const pristine = readFileSync(path);
  for (const size of [pristine.length - 1, pristine.length / 2, headerBytes, headerBytes - 1, 10, 0]) {
    truncateSync(path, Math.floor(size));
    await refused(t, folder, shard, /truncated/);
    writeFileSync(path, pristine);
  }
  appendFileSync(path, "x");
  await refused(t, folder, shard, /1 bytes too many/);
  rmSync(path);
  await refused(t, folder, shard, /cannot be opened/);
});

test("a foreign file, another dataset's shard and another tokenizer's shard are told apart", async (t) => {
  const folder = await victim(t);
  const other = join(temporaryFolder(t), "other");
  await mkdir(other);
  writeFileSync(join(folder, shard), "not a shard, but long enough to be one. ".repeat(200));
  await refused(t, folder, shard, /foreign/);
  copyFileSync(join(folder, "shard-00001.bin"), join(folder, shard));
  await refused(t, folder, shard, /is not the shard that dataset.json names/);
  await writeDataset(other, [counting(9)], 100, namedTokenizer(60000));
  copyFileSync(join(other, shard), join(folder, shard));
  await refused(t, folder, shard, /made with another tokenizer/);
});

test("a shard of another version is refused by its number, with what to do", async (t) => {
  const folder = await victim(t);
  const path = join(folder, shard);
  const bytes = readFileSync(path);
  bytes.writeUInt32LE(1, 8);
  sha256(bytes.subarray(0, headerBytes - 32)).copy(bytes, headerBytes - 32);
  writeFileSync(path, bytes);
  await refused(t, folder, shard, /shard version 1; this build reads version 2.*data prepare/);
});

test("dataset.json torn, flipped, edited or foreign is refused; a folder without one is bad input", async (t) => {
  const folder = await victim(t);
  const path = join(folder, "dataset.json");
  const text = readFileSync(path, "utf8");
  const manifest = JSON.parse(text) as DatasetManifest;
  writeFileSync(path, text.slice(0, text.length / 2));
  await refused(t, folder, "dataset.json", /torn/);
  writeFileSync(path, JSON.stringify({ ...manifest, tokens: manifest.tokens + 1 }));
  await refused(t, folder, "dataset.json", /edited/);
  writeFileSync(path, text.replace('"documents": 40', '"documents": 41'));
  await refused(t, folder, "dataset.json", /edited/);
  writeFileSync(path, "{}");
  await refused(t, folder, "dataset.json", /foreign/);
  const { checksum: _, ...body } = { ...manifest, version: 1 as 2 };
  writeFileSync(path, JSON.stringify({ ...body, checksum: manifestChecksum(body) }));
  await refused(t, folder, "dataset.json", /version 1; this build reads version 2.*data prepare/);
  rmSync(path);
  await t.throwsAsync(openDataset(folder), {
    code: "BAD_INPUT",
    message: /dataset\.json: there is no such.*data prepare/,
  });
  const nowhere = join(folder, "nowhere");
  await t.throwsAsync(openDataset(nowhere), { code: "BAD_INPUT", message: /nowhere.*no such folder.*--out .*nowhere/ });
  await t.throwsAsync(openDataset(join(nowhere, "train")), { code: "BAD_INPUT", message: /--out \S*nowhere`/ });
  await mkdir(join(folder, "train"));
  await writeDataset(join(folder, "train"), [[1, 2]]);
  t.deepEqual(datasetsIn(folder), [join(folder, "train")]);
  t.deepEqual(datasetsIn(join(folder, "train")), [join(folder, "train")]);
  await t.throwsAsync(openDataset(folder), { code: "BAD_INPUT", message: /it holds .*train; name one/ });
});
