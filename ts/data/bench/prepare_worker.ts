import { prepare } from "../prepare.ts";
import { loadTokenizer } from "../tokenizers/index.ts";

/** One run of `prepare`, in a process of its own. */
export interface PrepareTask {
  readonly input: string;
  readonly output: string;
  readonly tokenizer: string;
  readonly threads: number;
}

export interface PrepareMeasured {
  readonly seconds: number;
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
  /** Largest resident memory so far. */
  readonly peakBytes: number;
  readonly documents: number;
  readonly tokens: number;
}

const { input, output, tokenizer, threads } = JSON.parse(process.argv[2]!) as PrepareTask;
const cpu = process.cpuUsage();
const started = performance.now();
const { train } = await prepare({
  inputs: [input],
  output,
  tokenizer: loadTokenizer(tokenizer, { threads }),
  validationFraction: 0,
});
const { user, system } = process.cpuUsage(cpu);
process.send!({
  seconds: (performance.now() - started) / 1000,
  cpuSeconds: (user + system) / 1e6,
  peakBytes: process.resourceUsage().maxRSS * 1024,
  documents: train.documents,
  tokens: train.tokens,
} satisfies PrepareMeasured);
process.disconnect();
