import test from "ava";
import { philox, uniforms } from "../../ts/train/random.ts";
import { checkSampleOptions, sampleToken } from "../../ts/train/sample.ts";

const hex = (words: Uint32Array) => [...words].map((w) => w.toString(16).padStart(8, "0")).join(" ");

test("philox gives the known answers of the Random123 library", (t) => {
  t.is(hex(philox([0, 0, 0, 0], [0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  const ones = 0xffffffff;
  t.is(hex(philox([ones, ones, ones, ones], [ones, ones])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
  t.is(
    hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
});

const logits = Float32Array.of(1, 3, 2, 3, -1);
const all = { temperature: 1, topK: 0, topP: 1 };

test("temperature 0 takes the most likely token, the lower id of equals", (t) => {
  t.is(sampleToken(logits, { ...all, temperature: 0 }, 0.9), 1);
});

test("draws follow the softmax at each temperature, within four standard errors", (t) => {
  const draws = 20_000;
  for (const temperature of [0.5, 1, 2]) {
    const uniform = uniforms(7);
    const counts = new Float64Array(5);
    for (let i = 0; i < draws; i++) counts[sampleToken(logits, { ...all, temperature }, uniform())]!++;
    const weights = [...logits].map((v) => Math.exp(v / temperature));
    const total = weights.reduce((a, b) => a + b);
    for (const [id, weight] of weights.entries()) {
      const p = weight / total;
      t.true(
        Math.abs(counts[id]! / draws - p) <= 4 * Math.sqrt((p * (1 - p)) / draws),
        `token ${id} at ${temperature}`,
      );
    }
  }
});

test("top-k and top-p never draw outside their tokens", (t) => {
  const uniform = uniforms(3);
  const seen = (options: object) =>
    [...new Set(Array.from({ length: 500 }, () => sampleToken(logits, { ...all, ...options }, uniform())))].sort();
  t.deepEqual(seen({ topK: 2 }), [1, 3]);
  t.deepEqual(seen({ topP: 0.5 }), [1, 3]);
  t.deepEqual(seen({ topP: 0.9 }), [1, 2, 3]);
  t.deepEqual(seen({}), [0, 1, 2, 3, 4]);
});

test("sampling options out of range are refused by name", (t) => {
  t.throws(() => checkSampleOptions({ ...all, temperature: -1 }), { code: "BAD_OPTION", message: /temperature/ });
  t.throws(() => checkSampleOptions({ ...all, topK: 1.5 }), { message: /top-k/ });
  t.throws(() => checkSampleOptions({ ...all, topP: 0 }), { message: /top-p/ });
});
