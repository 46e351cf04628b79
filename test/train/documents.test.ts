import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { prepare } from "../../ts/data/prepare.ts";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import type { EvaluationRecord } from "../../ts/train/records.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";

const files = ["model.safetensors", "optimizer.safetensors"];

test("a run inside documents, stopped anywhere, goes on with the same bits; evaluation uses the same mask", async (t) => {
  const workplace = await makeWorkplace();
  const input = join(workplace, "lines.jsonl");
  const line = (i: number) => JSON.stringify({ text: `${"the river runs ".repeat(i % 7)}${i}` });
  writeFileSync(input, Array.from({ length: 900 }, (_, i) => `${line(i)}\n`).join(""));
  const output = join(workplace, "lines");
  await prepare({ inputs: [input], output, tokenizer: "bytes", validationFraction: 0.2 });

  const data = { train: output, attention: "documents" };
  await trainSmall(workplace, "apart", { config: { data } });
  await trainSmall(workplace, "stopped", { config: { data }, ...stopAt(17) });
  await t.throwsAsync(trainSmall(workplace, "stopped", { config: { data: { train: output } }, resume: "auto" }), {
    code: "BAD_CONFIG",
    message: /data\.attention: the checkpoint has documents, the configuration nothing/,
  });
  await trainSmall(workplace, "stopped", { config: { data: { train: output } }, resume: "auto", onDrift: "keep" });
  for (const file of files)
    t.true(checkpointFile(workplace, "stopped", 42, file).equals(checkpointFile(workplace, "apart", 42, file)), file);
  t.deepEqual(await deterministicMetrics(workplace, "stopped"), await deterministicMetrics(workplace, "apart"));

  await trainSmall(workplace, "together", { config: { data: { train: output } } });
  const last = async (run: string) =>
    (await readMetrics(join(workplace, run, "metrics.jsonl"))).findLast(
      (r): r is EvaluationRecord => r.type === "evaluation",
    )!;
  t.not((await last("together")).loss, (await last("apart")).loss);
  // Another batch than the run's: the order of fp32 sums.
  const measured = await evaluateCheckpoint({ path: join(workplace, "apart") });
  t.true(Math.abs(measured.loss - (await last("apart")).loss) < 1e-5);
});
