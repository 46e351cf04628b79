import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), one table entry per byte. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = crcTable[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** TFRecord's masked checksum: rotated right by 15 bits plus a constant, so that a CRC of CRCs does not cancel. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const c = crc32c(bytes);
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
}

/** One TFRecord: u64 length, masked crc of the length, payload, masked crc of the payload; little-endian. */
export function tfRecord(payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + payload.length);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(payload.length), true);
  view.setUint32(8, maskedCrc32c(out.subarray(0, 8)), true);
  out.set(payload, 12);
  view.setUint32(12 + payload.length, maskedCrc32c(payload), true);
  return out;
}

/** The few wire types of protobuf that tensorflow.Event needs. */
function varint(value: number): number[] {
  const out: number[] = [];
  let rest = BigInt(value);
  for (; rest >= 128n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  return [...out, Number(rest)];
}
const tag = (field: number, wire: number): number => (field << 3) | wire;
const bytesField = (field: number, bytes: ArrayLike<number>): number[] => [
  tag(field, 2),
  ...varint(bytes.length),
  ...Array.from(bytes),
];
const floatField = (field: number, value: number): number[] => [
  tag(field, 5),
  ...new Uint8Array(new Float32Array([value]).buffer),
];
const doubleField = (field: number, value: number): number[] => [
  tag(field, 1),
  ...new Uint8Array(new Float64Array([value]).buffer),
];

const utf8 = new TextEncoder();

/** tensorflow.Event with one scalar summary per entry: wall_time = 1, step = 2, summary = 5 { value = 1 { tag, simple_value } }. */
export function scalarEvent(seconds: number, step: number, values: Readonly<Record<string, number>>): Uint8Array {
  const summary = Object.entries(values).flatMap(([name, value]) =>
    bytesField(1, [...bytesField(1, utf8.encode(name)), ...floatField(2, value)]),
  );
  return Uint8Array.from([...doubleField(1, seconds), tag(2, 0), ...varint(step), ...bytesField(5, summary)]);
}

/** First record of an event file: file_version = 3. */
export const versionEvent = (seconds: number): Uint8Array =>
  Uint8Array.from([...doubleField(1, seconds), ...bytesField(3, utf8.encode("brain.Event:2"))]);

/** Writes TensorBoard event files of scalars under `directory`; each start of a run adds one file. */
export class TensorBoardWriter {
  readonly #file: number;

  constructor(directory: string, now = Date.now()) {
    mkdirSync(directory, { recursive: true });
    const name = `events.out.tfevents.${Math.floor(now / 1000)}.${hostname()}.${process.pid}`;
    this.#file = openSync(join(directory, name), "a");
    writeSync(this.#file, tfRecord(versionEvent(now / 1000)));
  }

  /** A full disk is no reason to stop training: a record that cannot be written is left out. */
  scalars(step: number, values: Readonly<Record<string, number>>): void {
    try {
      writeSync(this.#file, tfRecord(scalarEvent(Date.now() / 1000, step, values)));
    } catch {
      // The same numbers are in metrics.jsonl.
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}
