import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { ThalwegError } from "../../base/errors.ts";

/** Loads a tokenizer.json and texts, then encodes them once for each line it reads. */
const program = `
import json, sys, time
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.encode_special_tokens = True
texts = json.load(open(sys.argv[2]))
for line in sys.stdin:
    encode = getattr(tokenizer, line.strip())
    start, cpu = time.perf_counter(), time.process_time()
    found = encode(texts, add_special_tokens=False)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds, "tokens": sum(len(e.ids) for e in found)}), flush=True)
`;

/** One encoding of all texts. */
export interface PeerTime {
  readonly seconds: number;
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
  readonly tokens: number;
}

/** Hugging Face tokenizers in a Python of the user's, kept running between measurements. */
export class HuggingFacePeer {
  private readonly child: ChildProcess;
  private readonly answers: AsyncIterator<string>;

  /** @param texts a JSON file with an array of strings */
  constructor(python: string, tokenizerJson: string, texts: string, threads: number) {
    const env = { ...process.env, RAYON_NUM_THREADS: String(threads), TOKENIZERS_PARALLELISM: "true" };
    this.child = spawn(python, ["-c", program, tokenizerJson, texts], { stdio: ["pipe", "pipe", "inherit"], env });
    this.child.on("error", () => undefined); // the answers end, which `encode` reports
    this.answers = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  async encode(method: "encode_batch" | "encode_batch_fast"): Promise<PeerTime> {
    this.child.stdin!.write(`${method}\n`);
    const { value, done } = await this.answers.next();
    if (done)
      throw new ThalwegError("BAD_OPTION", "the Python peer ended: it needs `pip install tokenizers` (--python PATH)");
    return JSON.parse(value as string) as PeerTime;
  }

  close(): void {
    this.child.kill();
  }
}
