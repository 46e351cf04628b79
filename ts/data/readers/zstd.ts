import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import { optionalPackage } from "../optional.ts";
import { nextAnswer } from "./answers.ts";

interface Question {
  /** A new stream begins. */
  readonly begin: boolean;
  /** What comes next; null to hear the rest of what came before. */
  readonly bytes: Uint8Array | null;
  readonly end: boolean;
}

interface Answer {
  readonly parts: readonly Uint8Array[];
  /** There is more to hear of these bytes. */
  readonly more: boolean;
}

/**
 * The program of the thread. JavaScript, since tsx does not load TypeScript in the threads of Node 20. It answers with about
 * a MiB, so that memory stays small however well a file is packed; 8 KiB are unpacked whole (up to 32 kB for each byte).
 */
const program = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { Decompress } = require(workerData);
  let unpacker, input, at, parts;
  const ready = () => parts.reduce((sum, part) => sum + part.length, 0);
  parentPort.on("message", ({ begin, bytes, end }) => {
    parts = [];
    try {
      if (begin) unpacker = new Decompress((part) => part.length > 0 && parts.push(part));
      if (bytes) [input, at] = [bytes, 0];
      while (at < input.length && ready() < 1 << 20) unpacker.push(input.subarray(at, (at += 1 << 13)));
      const more = at < input.length;
      if (end && !more) unpacker.push(new Uint8Array(0), true);
      parentPort.postMessage({ parts, more }, parts.map((part) => part.buffer));
    } catch (error) {
      parentPort.postMessage({ refused: error.message });
    }
  });`;

/** fzstd on a thread: on damaged bytes it may go round in circles, and a thread can be ended. */
class Unpacker {
  private readonly worker: Worker;
  /** It owes no answer: another stream may begin. */
  free = true;

  /** @param file where fzstd is */
  constructor(file: string) {
    this.worker = new Worker(program, { eval: true, workerData: file, execArgv: [] });
    this.worker.unref(); // while it is waited for, that keeps the process alive
    this.worker.on("error", () => undefined); // told where its answer is waited for
  }

  async *answers(question: Question, patience: number): AsyncGenerator<Buffer> {
    let asked = this.ask(question, patience);
    for (let more = true; more; ) {
      const answer = await asked;
      if ("error" in answer) throw new Error(answer.error);
      if ("refused" in answer) throw new Error(answer.refused);
      more = answer.more;
      // It goes on while this answer is made use of.
      if (more) asked = this.ask({ begin: false, bytes: null, end: question.end }, patience);
      for (const { buffer, byteOffset, length } of answer.parts) yield Buffer.from(buffer, byteOffset, length);
    }
  }

  private async ask(question: Question, patience: number): Promise<Answer | { refused: string } | { error: string }> {
    this.free = false;
    this.worker.postMessage(question);
    const answer = await nextAnswer<Answer | { refused: string }>(this.worker, patience);
    this.free = !("error" in answer);
    return answer;
  }

  end(): void {
    void this.worker.terminate();
  }
}

/** A thread that waits for the next file. */
let idle: Unpacker | null = null;

/**
 * The bytes of a zstd stream, for versions of Node that do not unpack it themselves.
 * @param patience seconds after which a thread that is silent is given up
 */
export async function* unpackedZstd(chunks: AsyncIterable<Buffer>, patience: number): AsyncGenerator<Buffer> {
  await optionalPackage("fzstd", "reading .zst with this version of Node");
  const unpacker = idle ?? new Unpacker(createRequire(import.meta.url).resolve("fzstd"));
  idle = null;
  try {
    let begin = true;
    for await (const chunk of chunks) {
      // A copy: a view would take all of the memory it lies in along.
      yield* unpacker.answers({ begin, bytes: new Uint8Array(chunk), end: false }, patience);
      begin = false;
    }
    yield* unpacker.answers({ begin, bytes: new Uint8Array(0), end: true }, patience);
  } finally {
    if (unpacker.free && idle === null) idle = unpacker;
    else unpacker.end();
  }
}
