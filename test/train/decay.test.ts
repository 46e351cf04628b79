import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import type { CheckpointState } from "../../ts/train/checkpoint_state.ts";
import { loadRun } from "../../ts/train/compare.ts";
import { orderDecay } from "../../ts/train/control.ts";
import { branchDecay, planBranch } from "../../ts/train/decay.ts";
import { parseDecayRequest } from "../../ts/train/live_decay.ts";
import { silentReporter } from "../../ts/train/reporter.ts";
import { checkpointFile, makeWorkplace, trainSmall } from "./support/runs.ts";

let workplace: string;
const lr = { peak: 0.01, warmup: 4, constant: {} };
const open = { schedule: { lr }, steps: 40, checkpoints: { every: 10, keep: 9 } };
const state = (run: string, step: number) =>
  JSON.parse(checkpointFile(workplace, run, step, "state.json").toString()) as CheckpointState;

test.before("a trunk at a constant rate", async () => {
  workplace = await makeWorkplace();
  await trainSmall(workplace, "trunk", { config: open });
});

const request = (more: object = {}) => parseDecayRequest({ steps: 8, shape: "linear", floor: 0, ...more });
const run = () => join(workplace, "trunk");

test("a decay branches off a named checkpoint: the trunk's rate before, down to the floor after, the trunk untouched", async (t) => {
  const before = readdirSync(join(run(), "checkpoints"));
  const result = await branchDecay({ run: run(), from: "20", request: request(), measurePeak: false });
  t.is(result.step, 28);
  t.is(result.runDir, join(workplace, "small-decay-20"));
  const { steps } = await loadRun(result.runDir);
  t.deepEqual(
    steps.map((s) => [s.step, Number(s.lr.toFixed(12))]),
    [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [21 + i, Number((0.01 * (1 - i / 8)).toFixed(12))]),
  );
  t.is(result.decays.length, 1);
  t.truthy(result.decays[0]!.drop, "the loss before the decay is measured too");
  const { lineage } = state("small-decay-20", 28);
  t.like(lineage.at(-1), { reason: "fork", fromStep: 20, spec: { at: 20, steps: 8, shape: "linear" } });
  t.true(lineage.at(-1)!.parent!.endsWith("trunk/checkpoints/step-00000020"));
  t.deepEqual(readdirSync(join(run(), "checkpoints")), before);
});

test("a decay's length may be tokens, hours or a deadline, and defaults to a tenth of what was trained", async (t) => {
  const plan = async (more: object) => (await planBranch({ run: run(), request: parseDecayRequest(more) })).decay;
  t.like(await plan({}), { at: 40, steps: 4, shape: "inverse" });
  t.like(await plan({ tokens: 1280 }), { steps: 10 });
  const { tokensPerSecond } = (await loadRun(run())).steps.at(-1)!;
  const inAnHour = await plan({ hours: 1 });
  t.true(inAnHour.steps > 100 && tokensPerSecond > 0);
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const byThen = await plan({ until });
  // 95% of the time, less the moment since the deadline was written.
  t.true(byThen.steps <= 0.95 * inAnHour.steps && byThen.steps > 0.9 * inAnHour.steps);
  await t.throwsAsync(plan({ until: "2020-01-01T00:00" }), { message: /expected at least 1/ });
  t.throws(() => parseDecayRequest({ steps: 3, hours: 1 }), { message: /exactly one of steps, tokens, hours, until/ });
});

test("a checkpoint that is not there is refused with those that are", async (t) => {
  await t.throwsAsync(planBranch({ run: run(), from: "25", request: request() }), {
    message: /--from 25: .* it has those of steps 10, 20, 30, 40/,
  });
});

/** Trains the open run, slowly, and orders a decay when step 6 was made. */
async function live(name: string, more: object = {}) {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  let order: Promise<void> | null = null;
  const reporter = {
    ...silentReporter,
    step: ({ record }: { record: { step: number } }) => {
      Atomics.wait(sleep, 0, 0, 40);
      if (record.step === 6)
        order = orderDecay(join(workplace, name), { steps: 8, shape: "linear", floor: 0, ...more });
    },
  };
  const result = await trainSmall(workplace, name, { config: open, reporter });
  await order;
  return result;
}

test("a decay ordered of a running run takes the bits of one branched off there, and its lineage says so", async (t) => {
  const result = await live("live");
  const decay = result.decays[0]!;
  const at = decay.step - 8;
  t.true(at > 6 && result.step === decay.step, `the run ended with the decay, at step ${result.step}`);
  const { lineage, config } = state("live", result.step);
  t.like(lineage.at(-1), { fromStep: at, reason: "decay", spec: { at, steps: 8, shape: "linear", floor: 0 } });
  t.is(config.schedule.lr.interruptions?.length, 1);
  const written = JSON.parse(readFileSync(join(workplace, "live", "run.json"), "utf8"));
  t.deepEqual(written.lineage, lineage);
  const branch = await trainSmall(workplace, "trunk-to-there", { config: { ...open, steps: at } });
  t.is(branch.step, at);
  await branchDecay({
    run: join(workplace, "trunk-to-there"),
    request: request(),
    runDir: join(workplace, "branched"),
    measurePeak: false,
  });
  for (const file of ["model.safetensors", "optimizer.safetensors"])
    t.true(
      checkpointFile(workplace, "live", result.step, file).equals(
        checkpointFile(workplace, "branched", result.step, file),
      ),
      file,
    );
});

test("a run that decayed to order is resumed with its own file: the decay is in its lineage", async (t) => {
  const whole = await live("resumed", { next: "go_on" });
  const at = whole.decays[0]!.step - 8;
  t.is(whole.step, 48, "the interrupted schedule goes on, 8 steps later");
  const resume = join(workplace, "resumed", "checkpoints", `step-${String(at).padStart(8, "0")}`);
  const before = checkpointFile(workplace, "resumed", 48, "model.safetensors");
  const again = await trainSmall(workplace, "resumed", { config: open, resume });
  t.is(again.step, 48);
  t.true(checkpointFile(workplace, "resumed", 48, "model.safetensors").equals(before));
});

test("an order that cannot be carried out is a warning, and the run goes on as it was", async (t) => {
  const result = await live("refused", { floor: { value: 5 } });
  t.is(result.step, 40);
  t.true(result.warnings.some((w) => w.detector === "decay-refused" && /above the peak/.test(w.message)));
});
