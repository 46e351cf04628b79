import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import type { Document } from "../../ts/data/documents.ts";
import { listFiles, readDocuments } from "../../ts/data/readers/index.ts";
import { ZstdFrames } from "../../ts/data/readers/zstd_frames.ts";
import { optionalPackagesInstalled, temporaryFolder, writeTree } from "./support.ts";

/** Skipped where npm left the optional packages out. */
const packed = optionalPackagesInstalled() ? test : test.skip;
const line = Buffer.from('{"text":"one"}\n');
const MiB = 2 ** 20;

const little = (bytes: number, value: number | bigint): Buffer => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer.subarray(0, bytes);
};
/** A frame of one raw block (RFC 8878): its descriptor, and what stands between that and the block. */
const frame = (descriptor: number, header: Buffer, content = line): Buffer =>
  Buffer.concat([
    little(4, 0xfd2fb528),
    Buffer.from([descriptor]),
    header,
    little(3, content.length * 8 + 1),
    content,
    Buffer.alloc(descriptor & 4), // a checksum, where there is one
  ]);
/** A window of 2^(10 + exponent) bytes and eighths of it. */
const windowed = (exponent: number, eighths = 0) => frame(0, Buffer.from([exponent * 8 + eighths]));
const skippable = (bytes: number) =>
  Buffer.concat([little(4, 0x184d2a57), little(4, bytes), Buffer.alloc(bytes, 0x28)]);

/** Walks along a stream that comes in pieces of a size. */
function walk(stream: Buffer, size = stream.length): void {
  const frames = new ZstdFrames("x.zst");
  for (let at = 0; at < stream.length; at += size) frames.see(stream.subarray(at, at + size));
}

test("windows up to 128 MiB are walked over, with every kind of header, in pieces of any size", (t) => {
  const stream = Buffer.concat([
    windowed(17),
    frame(4, Buffer.from([13 * 8])), // a checksum
    skippable(300),
    frame(0b0010_0000, little(1, line.length)), // a single segment, the size of its content in 1, 2, 4 and 8 bytes
    frame(0b0110_0000, little(2, 300 - 256), Buffer.alloc(300)),
    frame(0b1010_0000, little(4, line.length)),
    frame(0b1110_0000, little(8, 128 * MiB)),
    frame(0b1100_0011, Buffer.concat([Buffer.from([0]), little(4, 7), little(8, 2n ** 40n)])), // a dictionary's id, a large content
    skippable(0),
    Buffer.concat([little(4, 0xfd2fb528), Buffer.from([0, 0]), little(3, 100_000 * 8 + 2 + 1), Buffer.from("z")]), // a run
    readFileSync(join(import.meta.dirname, "../fixtures/data/lines.jsonl.zst")),
  ]);
  for (let size = 1; size < 50; size++) t.notThrows(() => walk(stream, size), `pieces of ${size} bytes`);
  t.notThrows(() => walk(stream));
});

test("a larger window is refused wherever its frame lies, with its size and what to do", (t) => {
  const hostile: [Buffer, RegExp][] = [
    [windowed(17, 1), / 144 MiB, more than 128 MiB/],
    [windowed(18), / 256 MiB/],
    [windowed(31, 7), / 3932160 MiB/], // 2^41 bytes and seven eighths: a shift of 32 bits would make 960 bytes of it
    [frame(0b1010_0000, little(4, 128 * MiB + 1)), / 129 MiB/],
    [frame(0b1110_0000, little(8, 2n ** 62n)), / 4398046511104 MiB/],
  ];
  for (const [large, message] of hostile)
    for (const before of [
      Buffer.alloc(0),
      windowed(10),
      skippable(9),
      Buffer.concat([frame(4, Buffer.from([0])), skippable(0)]),
    ]) {
      const stream = Buffer.concat([before, large]);
      for (const size of [1, 3, stream.length]) {
        const error = t.throws(() => walk(stream, size), { code: "BAD_INPUT", message });
        t.regex(error!.message, /^x\.zst asks for a window .*zstd -d --long=31/);
      }
    }
});

test("what is no frame is refused where a frame should begin", (t) => {
  for (const rest of [Buffer.from("no frame"), Buffer.alloc(4), little(4, 0x184d2a4f), little(4, 0x184d2a60)])
    t.throws(() => walk(Buffer.concat([windowed(10), rest])), { code: "CORRUPT_DATA", message: /x\.zst is truncated/ });
});

packed(
  "a file whose second frame asks for too much gives the error and no memory, and the next file is read",
  async (t) => {
    const folder = writeTree(temporaryFolder(t), {
      "bad.jsonl.zst": Buffer.concat([windowed(10), windowed(20)]),
      "good.jsonl.zst": Buffer.concat([windowed(10), windowed(10)]),
    });
    const read = async (name: string) => {
      const found: Document[] = [];
      const files = await listFiles([join(folder, name)]);
      for await (const document of readDocuments(files, { deduplicate: false })) found.push(document);
      return found.length;
    };
    await t.throwsAsync(read("bad.jsonl.zst"), {
      code: "BAD_INPUT",
      message: /bad\.jsonl\.zst asks for a window of 1024 MiB/,
    });
    t.is(await read("good.jsonl.zst"), 2);
  },
);
