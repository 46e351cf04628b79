import type { LoaderBench } from "../data/bench/loader.ts";
import type { PrepareBench } from "../data/bench/prepare.ts";
import type { TokenizeBench } from "../data/bench/tokenize.ts";
import { formatTable } from "./table.ts";

const right = (title: string) => ({ title, align: "right" as const });

/** The parts that were measured, as tables. */
export function formatDataBench(parts: {
  tokenizer?: TokenizeBench;
  prepare?: PrepareBench;
  loader?: LoaderBench;
}): string {
  const shown: string[] = [];
  if (parts.tokenizer) shown.push(tokenizerTable(parts.tokenizer));
  if (parts.prepare) shown.push(prepareTable(parts.prepare));
  if (parts.loader) shown.push(loaderTable(parts.loader));
  return shown.join("\n\n");
}

function tokenizerTable({ speeds, texts, bytes, threads }: TokenizeBench): string {
  const rows = speeds.map((s) => [
    s.name,
    s.megabytesPerSecond.toFixed(1),
    `${s.ratio.toFixed(2)}x`,
    s.megabytesPerCpuSecond.toFixed(1),
    `${s.cpuRatio.toFixed(2)}x`,
  ]);
  const title = `tokenizer: ${texts} texts, ${(bytes / 1e6).toFixed(1)} MB, ${threads} threads`;
  const columns = [right("MB/s"), right("thalweg is faster by"), right("MB per CPU second"), right("by")];
  return formatTable([title, ...columns], rows);
}

function prepareTable(found: PrepareBench): string {
  const title = `data prepare: ${(found.bytes / 1e6).toFixed(0)} MB of .jsonl, ${found.documents} documents, ${found.tokens} tokens, ${found.threads} threads`;
  return formatTable(
    [title, right("")],
    [
      ["MB/s", found.megabytesPerSecond.toFixed(1)],
      ["MB per CPU second (of one core)", found.megabytesPerCpuSecond.toFixed(1)],
      ["peak memory, MB", (found.peakBytes / 1e6).toFixed(0)],
    ],
  );
}

function loaderTable({ tokens, shards, inMemory, speeds }: LoaderBench): string {
  const from = inMemory ? "kept in memory" : "from the page cache";
  const title = `loader: ${(tokens / 1e6).toFixed(0)} million tokens in ${shards} shards, ${from}`;
  const rows = speeds.map((s) => [
    `${s.sequences} sequences of ${s.length}`,
    (s.tokensPerSecond / 1e6).toFixed(1),
    (s.tokensPerCpuSecond / 1e6).toFixed(1),
  ]);
  return formatTable([title, right("million tokens/s"), right("per CPU second")], rows);
}
