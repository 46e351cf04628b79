/**
 * Compares our ids and texts with tiktoken's and Hugging Face tokenizers', on files and on random Unicode; prints JSON:
 *   tsx tools/tokenizers/compare.ts --python python3 [--files 'FOLDER'..] [--random 20000] [--seed 1] TOKENIZER..
 * TOKENIZER is a tokenizer.json (against Hugging Face), a ranks file of GPT-2's words (against tiktoken and, as the
 * tokenizer.json we write for it, Hugging Face), or WORDS=RANKS: the ranks under other words (cl100k, qwen2, o200k).
 * Needs `pip install tokenizers tiktoken` there. Ends with exit code 1 when anything differs.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { loadTokenizer, type Tokenizer } from "../../ts/data/tokenizers/index.ts";
import { splitPatterns } from "../../ts/data/tokenizers/pre_tokenizer.ts";
import { randomTexts } from "./random_texts.ts";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: "string", default: "python3" },
    files: { type: "string", multiple: true, default: [] },
    random: { type: "string", default: "20000" },
    seed: { type: "string", default: "1" },
  },
});

interface Answer {
  ids: number[][];
  decoded: string[];
  /** Of each text the characters that the oracle's Python does not know. */
  unknown: string[];
}

/** A running oracle: says what it is, then answers one question at a time. */
async function oracle(args: string[]) {
  const child = spawn(options.python, [join(import.meta.dirname, "oracle.py"), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the oracle ${args.join(" ")} ended`);
    return JSON.parse(value);
  };
  return {
    name: (await next()) as string,
    ask: (texts: readonly string[]): Promise<Answer> => {
      child.stdin.write(`${JSON.stringify({ texts })}\n`);
      return next();
    },
    end: () => child.stdin.end(),
  };
}

/**
 * Texts whose ids or decoded text differ; the first few are shown on standard error. Those with characters that are newer
 * than the oracle's tables may be split otherwise there: they are counted apart.
 */
async function differences(tokenizer: Tokenizer, answer: Answer, texts: readonly string[]) {
  let [different, newer, tokens] = [0, 0, 0];
  const batch = await tokenizer.encodeBatch(texts.map((text) => Buffer.from(text, "utf8")));
  for (const [i, text] of texts.entries()) {
    const ours = [...batch.ids.subarray(batch.offsets[i], batch.offsets[i + 1])];
    const theirs = answer.ids[i]!;
    const alone = tokenizer.encode(text);
    tokens += theirs.length;
    const sameIds = ours.length === theirs.length && ours.every((id, k) => id === theirs[k] && id === alone[k]);
    const decoded = tokenizer.decode(ours);
    if (sameIds && decoded === answer.decoded[i]) continue;
    if ([...answer.unknown[i]!].some((c) => !/\p{Cn}/u.test(c))) {
      newer++;
      continue;
    }
    if (different++ > 5) continue;
    const at = ours.findIndex((id, k) => id !== theirs[k]);
    const what = sameIds
      ? `text ${JSON.stringify(decoded.slice(0, 200))} for ${JSON.stringify(answer.decoded[i]!.slice(0, 200))}`
      : `ids from ${at}: ${ours.slice(at, at + 8)} for ${theirs.slice(at, at + 8)}`;
    console.error(`DIFFERS ${what} of ${JSON.stringify(text.slice(0, 200))}`);
  }
  return { different, newer, tokens };
}

/** The documents of text files and of the text fields of .jsonl files. */
function documents(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    if (name.endsWith(".txt")) return [readFileSync(join(folder, name), "utf8")];
    if (!name.endsWith(".jsonl")) return [];
    const lines = readFileSync(join(folder, name), "utf8").split("\n");
    return lines.filter((line) => line !== "").flatMap((line) => (JSON.parse(line) as { text?: string }).text ?? []);
  });
}

interface Case {
  readonly name: string;
  readonly spec: string;
  readonly oracle: readonly string[];
  readonly specialTokens: "text" | "match";
}

/** What is to be compared; tokenizer.json files that are made for it go to `folder`. */
function casesOf(argument: string, folder: string): Case[] {
  const both = (name: string, spec: string): Case[] =>
    (["text", "match"] as const).map((specialTokens) => {
      const flags = specialTokens === "match" ? ["--match-special"] : [];
      return { name, spec, oracle: ["hf", spec, ...flags], specialTokens };
    });
  if (argument.endsWith(".json")) return both(argument, argument);
  const [, words = "gpt2", ranks] = /^(?:(\w+)=)?(.*)$/.exec(argument)!;
  const pattern = splitPatterns[words as keyof typeof splitPatterns];
  const json = JSON.parse(loadTokenizer(`gpt2:${ranks}`).files()["tokenizer.json"]!);
  if (words !== "gpt2") {
    const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
    json.pre_tokenizer = { type: "Sequence", pretokenizers: [split, { ...json.pre_tokenizer, use_regex: false }] };
    json.model.ignore_merges = true;
  }
  const file = join(folder, `${words}.json`);
  writeFileSync(file, JSON.stringify(json));
  const name = `${basename(ranks!)} with the words of ${words}`;
  return [{ name, spec: file, oracle: ["tiktoken", ranks!, pattern], specialTokens: "text" }, ...both(name, file)];
}

async function check({ name, spec, oracle: args, specialTokens }: Case, files: readonly string[]) {
  const tokenizer = loadTokenizer(spec, { specialTokens });
  const { added_tokens } = JSON.parse(tokenizer.files()["tokenizer.json"]!) as { added_tokens: { content: string }[] };
  const special = added_tokens.map((token) => token.content);
  const { name: library, ask, end } = await oracle([...args]);
  const sums = { fileTokens: 0, randomTokens: 0, differences: 0, differencesAtNewerCharacters: 0 };
  for (const [kind, all] of [
    ["fileTokens", files],
    ["randomTokens", randomTexts(Number(options.seed), Number(options.random), special)],
  ] as const)
    for (let i = 0; i < all.length; i += 1000) {
      const some = all.slice(i, i + 1000);
      const { different, newer, tokens } = await differences(tokenizer, await ask(some), some);
      sums[kind] += tokens;
      sums.differences += different;
      sums.differencesAtNewerCharacters += newer;
    }
  end();
  return { tokenizer: name, oracle: library, specialTokens, vocabSize: tokenizer.vocabSize, ...sums };
}

const folder = mkdtempSync(join(tmpdir(), "thalweg-compare-"));
try {
  const files = options.files.flatMap(documents);
  const results = [];
  for (const argument of positionals)
    for (const one of casesOf(argument, folder)) results.push(await check(one, files));
  const fileBytes = files.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const { random, seed } = options;
  const report = { documents: files.length, fileBytes, randomTexts: Number(random), seed: Number(seed), results };
  console.log(JSON.stringify(report, null, 2));
  process.exitCode = results.every((result) => result.differences === 0) ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true });
}
