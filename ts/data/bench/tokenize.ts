import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { loadTokenizer, type Tokenizer } from "../index.ts";
import { HuggingFacePeer, type PeerTime } from "./peer.ts";
import { gatherTexts, median } from "./texts.ts";

export interface TokenizeBenchOptions {
  /** As for `prepare`. */
  readonly inputs: readonly string[];
  readonly tokenizer: string;
  /** 0 for every CPU allowed. */
  readonly threads: number;
  /** Every contestant encodes the same texts once in each round, one after the other. */
  readonly rounds: number;
  /** About how much text. */
  readonly maxBytes: number;
  /** A Python with Hugging Face tokenizers to compare with. */
  readonly python?: string | undefined;
  readonly onRound?: (round: number) => void;
}

export interface TokenizeSpeed {
  readonly name: string;
  /** Median over the rounds. */
  readonly megabytesPerSecond: number;
  readonly tokens: number;
  /** Our speed over this one's: median of the rounds' ratios. */
  readonly ratio: number;
  /** The same of CPU time, all threads together: what one core does, however many others want it. */
  readonly megabytesPerCpuSecond: number;
  readonly cpuRatio: number;
}

export interface TokenizeBench {
  readonly texts: number;
  readonly bytes: number;
  readonly threads: number;
  readonly speeds: readonly TokenizeSpeed[];
}

interface Contestant {
  readonly name: string;
  /** Encodes all texts. */
  run(): Promise<PeerTime>;
}

/**
 * Speed of a tokenizer on real text, beside gpt-tokenizer (where it is installed, for GPT-2's vocabulary) and Hugging Face
 * tokenizers (where a Python has them), in alternating rounds in one run.
 * @throws ThalwegError BAD_INPUT when the inputs hold no text or ids of a peer are counted otherwise
 */
export async function benchTokenize(options: TokenizeBenchOptions): Promise<TokenizeBench> {
  const tokenizer = loadTokenizer(options.tokenizer, { threads: options.threads });
  const threads = options.threads || availableParallelism();
  const texts = await gatherTexts(options.inputs, options.maxBytes);
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const folder = await mkdtemp(join(tmpdir(), "thalweg-bench-"));
  const closing: (() => void)[] = [];
  try {
    const contestants = [ours(tokenizer, texts), ...(await gptTokenizer(tokenizer, texts))];
    if (options.python !== undefined) {
      const peer = await startPython(options.python, tokenizer, texts, folder, threads);
      closing.push(() => peer.close());
      for (const method of ["encode_batch", "encode_batch_fast"] as const)
        contestants.push({ name: `Hugging Face tokenizers, ${method}`, run: () => peer.encode(method) });
    }
    const rounds = await measure(contestants, options);
    const speeds = contestants.map(({ name }, c) => ({
      name,
      megabytesPerSecond: median(rounds.map((round) => bytes / 1e6 / round[c]!.seconds)),
      tokens: rounds[0]![c]!.tokens,
      ratio: median(rounds.map((round) => round[c]!.seconds / round[0]!.seconds)),
      megabytesPerCpuSecond: median(rounds.map((round) => bytes / 1e6 / round[c]!.cpuSeconds)),
      cpuRatio: median(rounds.map((round) => round[c]!.cpuSeconds / round[0]!.cpuSeconds)),
    }));
    return { texts: texts.length, bytes, threads, speeds };
  } finally {
    for (const close of closing) close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** One round that does not count, then the rounds; all must find the same number of tokens. */
async function measure(contestants: readonly Contestant[], options: TokenizeBenchOptions) {
  const rounds: PeerTime[][] = [];
  for (let round = 0; round <= options.rounds; round++) {
    const results: PeerTime[] = [];
    for (const contestant of contestants) results.push(await contestant.run());
    const odd = results.findIndex((result) => result.tokens !== results[0]!.tokens);
    if (odd >= 0)
      throw new ThalwegError(
        "BAD_INPUT",
        `${contestants[odd]!.name} finds ${results[odd]!.tokens} tokens, this tokenizer ${results[0]!.tokens}: they are not the same`,
      );
    if (round > 0) rounds.push(results);
    options.onRound?.(round);
  }
  return rounds;
}

async function timed(run: () => Promise<number>): Promise<PeerTime> {
  const cpu = process.cpuUsage();
  const started = performance.now();
  const tokens = await run();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6, tokens };
}

function ours(tokenizer: Tokenizer, texts: readonly string[]): Contestant {
  const buffers = texts.map((text) => Buffer.from(text, "utf8"));
  return {
    name: "thalweg",
    run: () => timed(async () => (await tokenizer.encodeBatch(buffers)).ids.length),
  };
}

/** JavaScript, one thread; its white space is not Unicode's, so texts with U+0085 or U+FEFF make it drop out. */
async function gptTokenizer(tokenizer: Tokenizer, texts: readonly string[]): Promise<Contestant[]> {
  if (tokenizer.name !== "gpt2" || texts.some((text) => /[\u0085\ufeff]/.test(text))) return [];
  const module = "gpt-tokenizer/encoding/r50k_base";
  const loaded = (await import(module).catch(() => null)) as {
    encode(text: string, options: object): number[];
  } | null;
  if (loaded === null) return [];
  const options = { disallowedSpecial: new Set() };
  const run = () => timed(async () => texts.reduce((sum, text) => sum + loaded.encode(text, options).length, 0));
  return [{ name: "gpt-tokenizer (one thread)", run }];
}

async function startPython(
  python: string,
  tokenizer: Tokenizer,
  texts: readonly string[],
  folder: string,
  threads: number,
): Promise<HuggingFacePeer> {
  const [json, list] = [join(folder, "tokenizer.json"), join(folder, "texts.json")];
  await writeFile(json, tokenizer.files()["tokenizer.json"]!);
  await writeFile(list, JSON.stringify(texts));
  return new HuggingFacePeer(python, json, list, threads);
}
