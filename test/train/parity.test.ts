import test from "ava";
import { llamaConfig } from "../../ts/model/presets.ts";
import { curveDifference, trainingParity } from "../../ts/train/parity.ts";
import { bigramText } from "../../ts/train/synthetic.ts";
import { simtTest } from "../device/support/gpu.ts";

const model = llamaConfig({ vocab: 64, dim: 32, layers: 1, heads: 2, ffn: 48, maxLength: 32 });
const small = { model, batch: 2, length: 32, peak: 1e-2 } as const;

test("a device agrees with itself bit for bit, on a loss that falls", async (t) => {
  const result = await trainingParity({ ...small, devices: ["cpu", "cpu"], steps: 60, threads: 1 });
  t.like(result, { meanDifference: 0, largestDifference: 0, ok: true, steps: 60 });
  t.true(result.fall > 0.5, `the loss fell by ${result.fall}`);
});

simtTest("the CUDA kernels' loss curve follows the CPU's within the tolerance for bf16", async (t) => {
  const result = await trainingParity({ ...small, devices: ["cpu", "simt"], steps: 4 });
  t.true(result.ok, `mean difference ${result.meanDifference}`);
  t.true(result.meanDifference > 0, "two implementations with the same bits everywhere would be one");
});

test("curves that part are told apart: the mean counts every step, and NaN is no parity", (t) => {
  t.deepEqual(curveDifference([1, 2, 3], [1, 2.5, 2]), { meanDifference: 0.5, largestDifference: 1 });
  t.true(Number.isNaN(curveDifference([1, 2], [1, Number.NaN]).meanDifference));
});

test("synthetic text is the same for a seed, and each token has at most four followers", (t) => {
  const text = bigramText(64, 9);
  const batch = text.batch(4, 128, 3);
  t.deepEqual(bigramText(64, 9).batch(4, 128, 3), batch);
  t.notDeepEqual(bigramText(64, 10).batch(4, 128, 3).tokens, batch.tokens);
  t.deepEqual(batch.targets.slice(0, 127), batch.tokens.slice(1, 128));
  const followers = new Map<number, Set<number>>();
  for (let step = 0; step < 20; step++) {
    const { tokens, targets } = text.batch(4, 128, step);
    for (const [i, token] of tokens.entries())
      followers.set(token, (followers.get(token) ?? new Set()).add(targets[i]!));
  }
  t.true(Math.max(...[...followers.values()].map((set) => set.size)) <= 4);
  t.true(text.entropy > 1 && text.entropy < Math.log(4));
});
