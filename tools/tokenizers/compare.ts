/**
 * Compares our ids and texts with tiktoken's and Hugging Face tokenizers', on files and on random Unicode:
 *   tsx tools/tokenizers/compare.ts --python python3 [--files 'FOLDER'..] [--random 20000] [--seed 1] TOKENIZER.json|RANKS..
 * Needs `pip install tokenizers tiktoken` there. Ends with exit code 1 when anything differs.
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { loadTokenizer, type Tokenizer } from "../../ts/data/tokenizers/index.ts";
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
}

/** A running oracle: asks one question at a time. */
function oracle(args: string[]) {
  const child = spawn(options.python, [join(import.meta.dirname, "oracle.py"), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    ask: async (texts: readonly string[]): Promise<Answer> => {
      child.stdin.write(`${JSON.stringify({ texts })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`the oracle ${args.join(" ")} ended`);
      return JSON.parse(value) as Answer;
    },
    end: () => child.stdin.end(),
  };
}

let failures = 0;

async function compare(name: string, tokenizer: Tokenizer, answer: Answer, texts: readonly string[]) {
  const batch = await tokenizer.encodeBatch(texts.map((text) => Buffer.from(text, "utf8")));
  for (const [i, text] of texts.entries()) {
    const ours = [...batch.ids.subarray(batch.offsets[i], batch.offsets[i + 1])];
    const theirs = answer.ids[i]!;
    const decoded = tokenizer.decode(ours);
    const same = ours.length === theirs.length && ours.every((id, k) => id === theirs[k]);
    if (same && decoded === answer.decoded[i] && tokenizer.encode(text).every((id, k) => id === theirs[k])) continue;
    if (failures++ < 10) {
      const at = ours.findIndex((id, k) => id !== theirs[k]);
      const what = same ? "text" : `ids from ${at}: ${ours.slice(at, at + 8)} for ${theirs.slice(at, at + 8)}`;
      console.log(`DIFFERS ${name} ${what} of ${JSON.stringify(text.slice(0, 200))}`);
      if (same)
        console.log(
          `  ours ${JSON.stringify(decoded.slice(0, 200))} for ${JSON.stringify(answer.decoded[i]!.slice(0, 200))}`,
        );
    }
  }
}

/** The documents of text files and of the text fields of .jsonl files. */
function documents(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    if (name.endsWith(".txt")) return [readFileSync(join(folder, name), "utf8")];
    if (!name.endsWith(".jsonl")) return [];
    const lines = readFileSync(join(folder, name), "utf8").split("\n");
    return lines.filter((line) => line !== "").map((line) => (JSON.parse(line) as { text: string }).text);
  });
}

async function check(path: string, matchSpecial: boolean) {
  const json = path.endsWith(".json");
  const started = performance.now();
  const tokenizer = loadTokenizer(json ? path : `gpt2:${path}`, { specialTokens: matchSpecial ? "match" : "text" });
  const loaded = performance.now() - started;
  const { ask, end } = oracle([json ? "hf" : "tiktoken", path, ...(matchSpecial ? ["--match-special"] : [])]);
  const texts = options.files.flatMap(documents);
  for (const [name, all] of [
    ["files", texts],
    ["random", randomTexts(Number(options.seed), Number(options.random), [...specials(tokenizer)])],
  ] as const) {
    for (let i = 0; i < all.length; i += 1000) {
      const some = all.slice(i, i + 1000);
      await compare(name, tokenizer, await ask(some), some);
    }
  }
  end();
  console.log(
    `${path}${matchSpecial ? " matching special tokens" : ""}: loaded in ${loaded.toFixed(0)} ms, ${texts.length} documents, ${options.random} random texts, ${failures} differences`,
  );
}

function* specials(tokenizer: Tokenizer): Iterable<string> {
  const added = JSON.parse(tokenizer.files()["tokenizer.json"]!).added_tokens as { content: string }[];
  for (const token of added) yield token.content;
}

for (const path of positionals) {
  await check(path, false);
  if (path.endsWith(".json")) await check(path, true);
}
process.exitCode = failures === 0 ? 0 : 1;
