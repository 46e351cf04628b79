import { existsSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { METRICS_VERSION, type MetricsRecord } from "./records.ts";

const line = (record: MetricsRecord): string => `${JSON.stringify(record)}\n`;

/**
 * Records of a metrics.jsonl. A last line without its newline is the trace of a killed process and is dropped.
 * @throws CORRUPT_DATA naming the line when one is not JSON, or when the header is missing or of another version.
 */
export async function readMetrics(path: string): Promise<MetricsRecord[]> {
  const text = await readFile(path, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const records = whole
    .split("\n")
    .slice(0, -1)
    .map((entry, index) => parseLine(path, entry, index + 1));
  const header = records[0];
  if (records.length > 0 && (header?.type !== "header" || header.version !== METRICS_VERSION))
    throw new ThalwegError(
      "CORRUPT_DATA",
      `${path}:1: expected a metrics header of version ${METRICS_VERSION}, found ${JSON.stringify(header).slice(0, 120)}. Read it with the Thalweg that wrote it.`,
    );
  return records;
}

function parseLine(path: string, text: string, number: number): MetricsRecord {
  try {
    return JSON.parse(text) as MetricsRecord;
  } catch (cause) {
    throw new ThalwegError("CORRUPT_DATA", `${path}:${number}: not a JSON object: ${text.slice(0, 60)}`, { cause });
  }
}

/**
 * Appends records to metrics.jsonl. A disk that is full does not stop training: records wait in memory, a torn line is
 * cut off again, and the next append tries once more. Appends are queued in order, one write each.
 */
export class MetricsWriter {
  readonly #file: FileHandle;
  #length: number;
  #pending = "";
  #queue: Promise<void> = Promise.resolve();
  /** The error of the last write, null when everything pending is in the file. */
  failure: Error | null = null;

  private constructor(file: FileHandle, length: number) {
    this.#file = file;
    this.#length = length;
  }

  /** Opens the file of a run that starts: it must not exist yet, or be empty. */
  static async create(path: string): Promise<MetricsWriter> {
    const file = await open(path, "a");
    return new MetricsWriter(file, (await file.stat()).size);
  }

  /**
   * Opens the file of a run that goes on at `step`: records of later steps are dropped, those up to `step` stay. With
   * null the run starts over and nothing stays. Returns the records kept, so that the caller knows what was measured.
   */
  static async reopen(path: string, step: number | null): Promise<{ writer: MetricsWriter; kept: MetricsRecord[] }> {
    if (!existsSync(path)) return { writer: await MetricsWriter.create(path), kept: [] };
    const records = step === null ? [] : await readMetrics(path);
    const kept = records.filter((r) => r.type === "header" || r.step <= step!);
    await writeFileAtomic(path, kept.map(line).join(""));
    return { writer: await MetricsWriter.create(path), kept };
  }

  append(record: MetricsRecord): void {
    this.#pending += line(record);
    this.#queue = this.#queue.then(() => this.#write());
  }

  /** Waits until every record appended so far has been tried; with `sync` also until it would survive a loss of power. */
  async flush(sync = false): Promise<void> {
    this.#queue = this.#queue.then(() => this.#write());
    await this.#queue;
    if (sync && this.failure === null) await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#file.close();
  }

  async #write(): Promise<void> {
    const text = this.#pending;
    if (text === "") return;
    try {
      const bytes = Buffer.from(text, "utf8");
      const { bytesWritten } = await this.#file.write(bytes);
      if (bytesWritten < bytes.length) throw new Error(`${bytesWritten} of ${bytes.length} bytes written`);
      this.#length += bytes.length;
      this.#pending = this.#pending.slice(text.length);
      this.failure = null;
    } catch (error) {
      this.failure = error as Error;
      await this.#file.truncate(this.#length).catch(() => undefined);
    }
  }
}
