// Whole training steps side by side with PyTorch: the two alternate, A B A B, and the ratio is taken pair by pair.
//   node tools/bench/against_torch.mjs [--preset 10m] [--precision bf16] [--rounds 3] [--steps 10] [--eager]
//        [--python python3] [--out bench/results/NAME.json]
// The peer runs with torch.compile, tcmalloc and transparent huge pages where they can be had.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "../..");
const { values: o } = parseArgs({
  options: {
    preset: { type: "string", default: "10m" },
    precision: { type: "string", default: "bf16" },
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "10" },
    python: { type: "string", default: "python3" },
    eager: { type: "boolean", default: false },
    out: { type: "string" },
  },
});
const tcmalloc = "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4";
const tuned = existsSync(tcmalloc);

/** Runs a command and parses its last line of output as JSON. */
function measure(command, args, env = {}) {
  const r = spawnSync(command, args, { cwd: root, encoding: "utf8", env: { ...process.env, ...env } });
  if (r.status !== 0) throw new Error(`${command} ${args.join(" ")}\n${r.stderr}`);
  return JSON.parse(r.stdout.trim().split("\n").at(-1));
}

const shared = ["--preset", o.preset, "--precision", o.precision, "--steps", o.steps];
const ours = () => measure(process.execPath, ["dist/cli/main.js", "bench", "train", ...shared, "--json"]);
const theirs = () =>
  measure(
    o.python,
    ["tools/bench/torch_llama.py", ...shared, ...(o.eager ? [] : ["--compile"])],
    tuned ? { LD_PRELOAD: tcmalloc, THP_MEM_ALLOC_ENABLE: "1" } : {},
  );

const pairs = [];
for (let round = 0; round < Number(o.rounds); round++) {
  const pair = { ours: ours(), theirs: theirs() };
  pair.ratio = pair.ours.tokensPerSecond / pair.theirs.tokensPerSecond;
  pairs.push(pair);
  console.log(
    `round ${round + 1}: thalweg ${pair.ours.tokensPerSecond.toFixed(0)}  ${pair.theirs.peer} ${pair.theirs.tokensPerSecond.toFixed(0)} tokens/s  ratio ${pair.ratio.toFixed(2)}`,
  );
}
const median = (xs) => {
  const sorted = [...xs].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
const result = {
  benchmark: "train step against PyTorch on the CPU",
  // Where Python lies is this machine's business.
  command: `node tools/bench/against_torch.mjs ${process.argv
    .slice(2)
    .join(" ")
    .replace(/--python \S+ ?/, "")}`,
  cpu: cpus()[0]?.model,
  cpus: cpus().length,
  tcmalloc: tuned,
  preset: o.preset,
  precision: o.precision,
  tokensPerSecond: median(pairs.map((p) => p.ours.tokensPerSecond)),
  peerTokensPerSecond: median(pairs.map((p) => p.theirs.tokensPerSecond)),
  ratio: median(pairs.map((p) => p.ratio)),
  pairs,
};
console.log(`${o.preset} ${o.precision}: median ratio ${result.ratio.toFixed(2)}`);
if (o.out) {
  mkdirSync(dirname(join(root, o.out)), { recursive: true });
  writeFileSync(join(root, o.out), `${JSON.stringify(result, null, 2)}\n`);
}
