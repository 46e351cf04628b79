import { join } from "node:path";
import test from "ava";
import { openDataset } from "../../ts/data/dataset.ts";
import { fixedBatches } from "../../ts/data/loader.ts";
import { Permutation } from "../../ts/data/order.ts";
import { synthesize, syntheticSource } from "../../ts/data/synthetic/index.ts";
import { formatEntropyClasses } from "../../ts/report/entropy_table.ts";
import { EntropyClasses } from "../../ts/train/entropy_classes.ts";
import { evaluateLoss } from "../../ts/train/evaluate.ts";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import type { EvaluationRecord } from "../../ts/train/records.ts";
import { makeWorkplace, trainSmall } from "./support/runs.ts";

test("losses are counted in the class of their token's entropy, ignored targets in none", (t) => {
  const classes = new EntropyClasses([0, 1]);
  const targets = Int32Array.of(5, 6, -1, 7, 8);
  classes.add(Float32Array.of(0.5, 2, 9, 1, 3), Float32Array.of(0, 1, 1, 0.5, 1.5), targets);
  const found = classes.result();
  t.deepEqual(found, [
    { above: null, upTo: 0, tokens: 1, loss: 0.5, entropy: 0 },
    { above: 0, upTo: 1, tokens: 2, loss: 1.5, entropy: 0.75 },
    { above: 1, upTo: null, tokens: 1, loss: 3, entropy: 1.5 },
  ]);
  const table = formatEntropyClasses({
    web: { loss: 1, tokens: 1, bitsPerByte: null },
    made: { ...found[0]!, bitsPerByte: null, byEntropy: found },
  });
  t.is(table.split("\n").length, 2 + 3);
  t.regex(table, /made +0 to 1 +2 +1\.5000 +0\.7500 +0\.7500/);
  t.is(formatEntropyClasses({ web: { loss: 1, tokens: 1, bitsPerByte: null } }), "");
});

test("each target of a validation batch comes with its own entropy, across shards and in a batch filled up", async (t) => {
  const output = join(await makeWorkplace(), "facts");
  await synthesize({ source: syntheticSource("facts", { seed: 2 }), output, tokens: 9000, shardTokens: 3000 });
  await using dataset = await openDataset(join(output, "train"), { cacheBytes: 0 });
  t.true(dataset.manifest.shards.length > 2);
  const [length, sequences, batch] = [70, 100, 30];
  const permutation = new Permutation(Math.floor((dataset.tokens - 1) / length), 0, 0);
  let row = 0;
  for await (const { entropies, targets, validTokens } of fixedBatches(dataset, sequences, length, batch)) {
    for (let r = 0; r < validTokens / length; r++, row++) {
      const expected = new Float32Array(length);
      await dataset.readEntropy(permutation.permute(row) * length + 1, length, expected);
      t.deepEqual(entropies!.slice(r * length, (r + 1) * length), expected);
      const tokens = new Int32Array(length);
      await dataset.read(permutation.permute(row) * length + 1, length, tokens);
      t.deepEqual(targets.slice(r * length, (r + 1) * length), tokens);
    }
    t.is(entropies!.length, batch * length);
  }
  t.is(row, sequences);
  // A model that loses half a nat on every token, whatever its entropy.
  const set = () => fixedBatches(dataset, sequences, length, batch);
  const { losses, split } = await halfANatAbove(set);
  t.is(
    split.reduce((sum, one) => sum + one.tokens, 0),
    sequences * length,
  );
  t.true(split.length >= 3 && losses === sequences * length);
  for (const { loss, entropy } of split) t.true(Math.abs(loss - entropy - 0.5) < 1e-6);
});

async function halfANatAbove(set: Parameters<typeof evaluateLoss>[1]) {
  let losses = 0;
  const machine: Parameters<typeof evaluateLoss>[0] = {
    evaluate: async (batch, _, each) => {
      losses += batch.validTokens;
      const found = { sum: batch.validTokens, count: batch.validTokens };
      return each ? { ...found, losses: batch.entropies!.map((entropy) => entropy + 0.5) } : found;
    },
  };
  const { byEntropy } = await evaluateLoss(machine, set, undefined, [0, 1, 1.75, 2.4]);
  return { losses, split: byEntropy! };
}

test("a run on generated data records the loss of each set by true entropy, and eval finds the same", async (t) => {
  const workplace = await makeWorkplace();
  const output = join(workplace, "bigram");
  await synthesize({ source: syntheticSource("bigram", { seed: 1 }), output, tokens: 30_000 });
  const known = join(output, "validation");
  const data = { train: join(output, "train"), validation: { known, text: join(workplace, "data", "validation") } };
  await trainSmall(workplace, "run", { config: { data, evaluation: { sequences: 8, entropyBounds: [0, 1] } } });
  const metrics = await readMetrics(join(workplace, "run", "metrics.jsonl"));
  const evaluations = metrics.filter((r): r is EvaluationRecord => r.type === "evaluation");
  t.true(evaluations.length > 1);
  for (const { sets } of evaluations) {
    t.is(sets!.text!.byEntropy, undefined);
    const { loss, tokens, byEntropy } = sets!.known!;
    t.deepEqual(
      byEntropy!.map(({ above, upTo }) => [above, upTo]),
      [
        [null, 0],
        [0, 1],
        [1, null],
      ],
    );
    t.is(
      byEntropy!.reduce((sum, one) => sum + one.tokens, 0),
      tokens,
    );
    const mean = byEntropy!.reduce((sum, one) => sum + one.loss * one.tokens, 0) / tokens;
    t.true(Math.abs(mean - loss) < 1e-6 * loss, `${mean} against ${loss}: token losses in float32, sums in float64`);
    t.is(byEntropy![0]!.entropy, 0);
    t.true(Math.abs(byEntropy![1]!.entropy - Math.log(2)) < 1e-6);
  }
  const last = evaluations.at(-1)!.sets!.known!;
  const evaluated = await evaluateCheckpoint({ path: join(workplace, "run") });
  const { loss, bitsPerByte, ...counted } = evaluated.sets.known!;
  const { loss: lastLoss, bitsPerByte: lastBits, ...lastCounted } = last;
  t.deepEqual(counted, lastCounted, "token losses are the same bits");
  // The batch of the evaluation differs, so float32 sums of a few hundred losses are rounded elsewhere.
  t.true(Math.abs(loss - lastLoss) < 1e-6 * lastLoss, `${loss} against ${lastLoss}`);
  t.true(Math.abs(bitsPerByte! - lastBits!) < 1e-6 * lastBits!);
});
