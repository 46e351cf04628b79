import test from "ava";
import { DetectorSet, LossSpikeDetector, WeakDecayDetector } from "../../ts/train/detectors.ts";
import { fakeEvaluation, fakeStep } from "./support/records.ts";

/** A loss that falls slowly and wobbles by +-0.05, as a stable phase does. */
const calm = (step: number): number => 3 - 0.001 * step + 0.05 * Math.sin(step * 2.4);

function spikes(losses: (step: number) => number, steps: number, phase: (step: number) => string = () => "stable") {
  const detector = new LossSpikeDetector({ window: 32, sigmas: 6 });
  return Array.from({ length: steps }, (_, i) =>
    detector.step(fakeStep({ step: i + 1, loss: losses(i + 1), phase: phase(i + 1) })),
  ).filter((w) => w !== null);
}

test("loss-spike is silent in a calm stable phase and in the descent after the warm-up", (t) => {
  t.deepEqual(spikes(calm, 400), []);
  t.deepEqual(
    spikes((step) => 2 + 8 / Math.sqrt(step), 400),
    [],
  );
});

test("loss-spike names the step and what to try, once for a spike", (t) => {
  const warnings = spikes((step) => calm(step) + (step >= 100 && step < 103 ? 1.5 : 0), 300);
  t.is(warnings.length, 1);
  t.is(warnings[0]!.step, 101, "the second high loss in a row");
  t.is(warnings[0]!.detector, "loss-spike");
  t.regex(warnings[0]!.message, /steps 100 and 101 .* standard deviations above the mean/);
  t.regex(warnings[0]!.suggestion, /peak learning rate/);
});

test("loss-spike takes one odd batch for what it is", (t) => {
  t.deepEqual(
    spikes((step) => calm(step) + (step === 100 ? 1.5 : 0), 300),
    [],
  );
});

test("loss-spike takes neither a spike in the decay nor the jump back to the peak for one", (t) => {
  const phase = (step: number) => (step > 100 && step <= 140 ? "decay" : "stable");
  const losses = (step: number) => calm(step) - (phase(step) === "decay" ? 0.8 : 0) + (step === 120 ? 2 : 0);
  t.deepEqual(spikes(losses, 300, phase), []);
});

test("loss-spike after a resume warns as without one", (t) => {
  const records = Array.from({ length: 120 }, (_, i) => fakeStep({ step: i + 1, loss: i < 119 ? calm(i + 1) : 5 }));
  const spike = fakeStep({ step: 121, loss: 5 });
  const whole = new DetectorSet([new LossSpikeDetector({ window: 32 })]);
  for (const record of records) whole.observe(record);
  const resumed = new DetectorSet([new LossSpikeDetector({ window: 32 })]);
  resumed.replay(records);
  const warnings = whole.observe(spike);
  t.is(warnings.length, 1);
  t.deepEqual(resumed.observe(spike), warnings);
  t.is(whole.observe(spike).length, 0, "the window starts anew after a warning");
});

/** A stable phase with a slope per step, a decay of 40 steps from 100, and the losses measured around it. */
function decayOf(drop: number, stepSlope: number) {
  const detector = new WeakDecayDetector({ minimumDrop: 0.02 });
  for (let step = 1; step <= 100; step++) detector.step(fakeStep({ step, loss: 3 - stepSlope * step }));
  detector.evaluation(fakeEvaluation({ step: 100, loss: 2.5, occasion: "pre-decay" }));
  for (let step = 101; step <= 140; step++) detector.step(fakeStep({ step, loss: 2.4, phase: "decay" }));
  return detector.evaluation(fakeEvaluation({ step: 140, loss: 2.5 - drop, occasion: "post-decay" }));
}

test("weak-decay is silent after a decay that pays", (t) => {
  t.is(decayOf(0.1, 0.0001), null);
});

test("weak-decay warns of a decay below the minimum drop, with both losses", (t) => {
  const warning = decayOf(0.005, 0)!;
  t.is(warning.detector, "weak-decay");
  t.is(warning.step, 140);
  t.regex(warning.message, /steps 100 to 140 .* by 0\.0050 \(2\.5000 to 2\.4950\)/);
  t.regex(warning.suggestion, /peak|floor|short/);
});

test("weak-decay is silent when noise alone could make the stable phase look steeper than the decay", (t) => {
  const detector = new WeakDecayDetector({ minimumDrop: 0.02 });
  const noise = (step: number) => 0.2 * Math.sin(step * 12.9898) + 0.15 * Math.sin(step * 78.233);
  for (let step = 1; step <= 100; step++) detector.step(fakeStep({ step, loss: 3 - 0.001 * step + noise(step) }));
  detector.evaluation(fakeEvaluation({ step: 100, loss: 2.5, occasion: "pre-decay" }));
  t.is(detector.evaluation(fakeEvaluation({ step: 140, loss: 2.465, occasion: "post-decay" })), null);
});

test("weak-decay warns of a decay that gives no more than the stable phase was about to", (t) => {
  t.regex(decayOf(0.05, 0.002)!.message, /stable phase alone was about to give 0\.0800/);
});
