import { createHash } from "node:crypto";
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { digestFile, writeFileAtomic } from "../../ts/base/files.ts";
import { MetricsWriter, readMetrics } from "../../ts/train/metrics.ts";
import { checkpointLine, progressLine, progressReporter } from "../../ts/train/progress.ts";
import type { StepRecord } from "../../ts/train/records.ts";
import { StopSignals } from "../../ts/train/signals.ts";
import { crc32c, maskedCrc32c, TensorBoardWriter } from "../../ts/train/tensorboard.ts";
import { fakeHeader, fakeStep } from "./support/records.ts";

async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "thalweg-records-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

test("metrics read back as written, with every bit of a loss", async (t) => {
  const path = join(await folder(t), "metrics.jsonl");
  const writer = await MetricsWriter.create(path);
  const records = [fakeHeader(), fakeStep({ step: 1, loss: 0.1 + 0.2 }), fakeStep({ step: 2, loss: Math.PI })];
  for (const record of records) writer.append(record);
  await writer.close();
  t.deepEqual(await readMetrics(path), records);
});

test("going on at a step drops later records and a torn last line, and doubles none", async (t) => {
  const path = join(await folder(t), "metrics.jsonl");
  const first = await MetricsWriter.create(path);
  first.append(fakeHeader());
  for (let step = 1; step <= 6; step++) first.append(fakeStep({ step }));
  await first.close();
  await appendFile(path, '{"type":"step","step":7,"lo');
  const { writer, kept } = await MetricsWriter.reopen(path, 4);
  t.is(kept.length, 5);
  writer.append(fakeStep({ step: 5 }));
  await writer.close();
  const steps = (await readMetrics(path)).flatMap((r) => (r.type === "step" ? [r.step] : []));
  t.deepEqual(steps, [1, 2, 3, 4, 5]);
});

test("metrics of another version are refused by name", async (t) => {
  const path = join(await folder(t), "metrics.jsonl");
  await writeFile(path, '{"type":"header","version":99}\n');
  await t.throwsAsync(() => readMetrics(path), { code: "CORRUPT_DATA", message: /metrics\.jsonl:1: .*version 1/ });
  await writeFile(path, `${JSON.stringify(fakeHeader())}\nnonsense\n`);
  await t.throwsAsync(() => readMetrics(path), { code: "CORRUPT_DATA", message: /metrics\.jsonl:2/ });
});

test("an atomic write that fails leaves the old content and no temporary file", async (t) => {
  const directory = await folder(t);
  const path = join(directory, "state.json");
  await writeFileAtomic(path, "old");
  await t.throwsAsync(() => writeFileAtomic(path, { bad: true } as unknown as string));
  t.is(await readFile(path, "utf8"), "old");
  t.deepEqual(await readdir(directory), ["state.json"]);
  const digest = await digestFile(path);
  t.deepEqual(digest, { bytes: 3, sha256: createHash("sha256").update("old").digest("hex") });
});

test("crc32c gives the published check values", (t) => {
  // RFC 3720 B.4: 32 bytes of zeros, of ones, ascending; and the usual check string.
  t.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  t.is(crc32c(Buffer.from("123456789")), 0xe3069283);
});

test("a TensorBoard file is a chain of records whose checksums hold", async (t) => {
  const directory = await folder(t);
  const writer = new TensorBoardWriter(directory, 1_700_000_000_000);
  writer.scalars(300, { loss: 2.5, lr: 0.001 });
  writer.close();
  const [name] = await readdir(directory);
  t.regex(name!, /^events\.out\.tfevents\.1700000000\./);
  const bytes = await readFile(join(directory, name!));
  const payloads: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    t.is(bytes.readUInt32LE(at + 8), maskedCrc32c(bytes.subarray(at, at + 8)));
    const payload = bytes.subarray(at + 12, at + 12 + length);
    t.is(bytes.readUInt32LE(at + 12 + length), maskedCrc32c(payload));
    payloads.push(payload);
    at += 16 + length;
  }
  t.is(payloads.length, 2);
  t.true(payloads[0]!.includes("brain.Event:2"));
  t.deepEqual([...payloads[1]!.subarray(9, 12)], [16, (300 & 127) | 128, 300 >> 7], "step 300 as a varint of field 2");
  t.true(payloads[1]!.includes("loss"));
  t.true(payloads[1]!.includes(Buffer.from(new Float32Array([2.5]).buffer)));
});

test("the first signal asks to save and stop, the second exits at once with 128 + its number", (t) => {
  const codes: number[] = [];
  const names: string[] = [];
  using signals = new StopSignals({ exit: (code) => codes.push(code), onFirst: (name) => names.push(name) }).install();
  process.emit("SIGTERM", "SIGTERM");
  t.true(signals.signal.aborted);
  t.is(signals.received, "SIGTERM");
  t.deepEqual(codes, []);
  process.emit("SIGINT", "SIGINT");
  process.emit("SIGTERM", "SIGTERM");
  t.deepEqual(codes, [130, 143]);
  t.deepEqual(names, ["SIGTERM"]);
});

const progress = (record: Partial<StepRecord> = {}) => ({
  record: fakeStep({ step: 1200, loss: 2.34567, lr: 0.0012, gradNorm: 0.8, tokensPerSecond: 12345.6, ...record }),
  end: 4000,
  secondsLeft: 200,
});

test("the progress line says step, loss, rate, norm, speed, share, phase and time left", (t) => {
  t.is(
    progressLine(progress({ share: 0.414 })),
    "step 1,200/4,000  loss 2.3457  lr 1.20e-3  norm 0.80  12,346 tok/s  41% of peak  stable  ETA 3 min 20 s",
  );
  t.is(
    checkpointLine({
      type: "checkpoint",
      step: 30,
      tokens: 1,
      path: "checkpoints/step-00000030",
      occasion: "final",
      budget: null,
      bytes: 2 ** 21,
    }),
    "step 30  saved checkpoints/step-00000030  2.00 MiB  (final)",
  );
});

function capture(isTTY: boolean, json = false) {
  let clock = 0;
  const written: string[] = [];
  const stream = { isTTY, columns: 60, write: (text: string) => written.push(text) };
  const reporter = progressReporter({ stream, json, seconds: 5, now: () => clock });
  return { reporter, written, wait: (ms: number) => (clock += ms) };
}

test("a file gets a plain line each few seconds, a terminal one line that redraws within its width", (t) => {
  const plain = capture(false);
  for (const step of [1, 2, 3]) {
    plain.reporter.step(progress({ step }));
    plain.wait(3000);
  }
  t.is(plain.written.length, 2);
  t.true(plain.written.every((text) => text.endsWith("\n") && !text.includes("\x1b")));

  const live = capture(true);
  live.reporter.step(progress({ step: 1 }));
  live.wait(1000);
  live.reporter.step(progress({ step: 2 }));
  live.reporter.note("saved");
  t.true(live.written[0]!.length < 60);
  t.true(live.written.includes("\r\x1b[2K"));
  t.is(live.written.at(-1), "saved\n");
});

test("JSON progress is one object a line", (t) => {
  const { reporter, written } = capture(false, true);
  reporter.step(progress());
  reporter.note("hello");
  t.deepEqual(
    written.map((text) => JSON.parse(text).type),
    ["step", "note"],
  );
});
