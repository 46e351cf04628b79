import test from "ava";
import type { Batch } from "../../ts/data/loader.ts";
import { TokenLoader } from "../../ts/data/loader.ts";
import { buildScalars } from "../../ts/schedule/scalars.ts";
import { openRunData } from "../../ts/train/datasets.ts";
import { decisive } from "../../ts/train/resume.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";
import { smallConfig, smallModel } from "./support/states.ts";

const stages = [
  { at: 0, length: 8 },
  { at: 6, length: 16 },
  { at: "2048 tokens", length: 32 },
];
const lengths = (more: object) => buildScalars(smallConfig({ schedule: { length: { stages, ...more } } })).lengths;

test("lengths change at steps or tokens; each divides batch.length and begins after the one before", (t) => {
  // 4 x 32 tokens a step: 2048 are read after 16.
  t.deepEqual([0, 5, 6, 15, 16, 41].map(lengths({}).lengthAt), [8, 8, 16, 16, 32, 32]);
  t.deepEqual([0, 9, 10].map(lengths({ stages: [{ at: 10, length: 4 }] }).lengthAt), [32, 32, 4]);
  t.throws(() => lengths({ stages: [{ at: 5, length: 12 }] }), {
    message: /schedule\.length\.stages\[0\]\.length is 12; expected a divisor of batch\.length \(32\)/,
  });
  const twice = [stages[1]!, { at: 6, length: 32 }];
  t.throws(() => lengths({ stages: twice }), {
    message: /stages\[1\]\.at is 6, which is step 6; expected a step after 6/,
  });
});

test("shorter sequences are pieces of the longer ones: the same tokens in the same order", async (t) => {
  const workplace = await makeWorkplace();
  await using data = await openRunData(smallConfig({ data: { train: `${workplace}/data` } }).data);
  const text = async (length: number): Promise<Pick<Batch, "tokens" | "targets" | "position">> => {
    const loader = new TokenLoader(data.sources, { length, maxLength: 32, seed: 3 });
    return (await loader.next((4 * 32) / length))!;
  };
  const [whole, pieces] = [await text(32), await text(8)];
  t.deepEqual(pieces.tokens, whole.tokens);
  t.deepEqual(pieces.targets, whole.targets);
  t.is(pieces.position, whole.position);
});

test("a run of growing length starts as one of the short length, reads as many tokens as any, and resumes bit for bit", async (t) => {
  const workplace = await makeWorkplace();
  const config = { schedule: { length: { stages } } };
  const whole = await trainSmall(workplace, "whole", { config });
  t.is(whole.tokens, 42 * 4 * 32);
  const loss = async (run: string) =>
    (await deterministicMetrics(workplace, run)).map((r) => (r as { loss: number }).loss);
  await trainSmall(workplace, "long", {});
  await trainSmall(workplace, "short", { config: { schedule: { length: { stages: [{ at: 0, length: 8 }] } } } });
  const [grown, long, short] = [await loss("whole"), await loss("long"), await loss("short")];
  t.deepEqual(grown.slice(0, 6), short.slice(0, 6));
  t.true(grown[6] !== short[6] && grown[0] !== long[0], "a token sees another number of tokens before it");
  for (const step of [5, 11, 20]) {
    const name = `stopped-${step}`;
    await trainSmall(workplace, name, { config, ...stopAt(step) });
    await trainSmall(workplace, name, { config, resume: "auto" });
    for (const file of ["model.safetensors", "optimizer.safetensors"])
      t.true(checkpointFile(workplace, name, 42, file).equals(checkpointFile(workplace, "whole", 42, file)), name);
    t.deepEqual(await deterministicMetrics(workplace, name), await deterministicMetrics(workplace, "whole"));
  }
});

test("the lengths decide bits: they are drift", (t) => {
  const identity = (schedule: object) => decisive({ config: smallConfig({ schedule }), model: smallModel() });
  t.notDeepEqual(identity({ length: { stages } }), identity({}));
  t.deepEqual(
    identity({ length: { stages: [{ at: 6, length: 16 }] } }),
    identity({ length: { stages: [{ at: "768 tokens", length: 16 }] } }),
  );
});
