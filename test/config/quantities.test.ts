import test from "ava";
import { canonicalJson } from "../../ts/config/canonical.ts";
import { editDistance, nearestName } from "../../ts/config/issues.ts";
import { parseBytes, parseDuration } from "../../ts/config/quantities.ts";

test("durations carry their unit", (t) => {
  t.deepEqual(parseDuration(30), { amount: 30, unit: "steps" });
  t.deepEqual(parseDuration(0.1), { amount: 0.1, unit: "share" });
  t.deepEqual(parseDuration("10%"), { amount: 0.1, unit: "share" });
  t.deepEqual(parseDuration("1 step"), { amount: 1, unit: "steps" });
  t.deepEqual(parseDuration("2k steps"), { amount: 2000, unit: "steps" });
  t.deepEqual(parseDuration("52.4B tokens"), { amount: 52_400_000_000, unit: "tokens" });
  t.deepEqual(parseDuration("12.8M sequences"), { amount: 12_800_000, unit: "sequences" });
  t.deepEqual(parseDuration("1.5e21 FLOPs"), { amount: 1.5e21, unit: "flops" });
  t.deepEqual(parseDuration("1_000_000 tokens"), { amount: 1_000_000, unit: "tokens" });
});

test("what is no duration is none", (t) => {
  for (const value of [-1, 1.5, Number.NaN, "", "30", "steps", "1.5 steps", "-3 steps", "120%", "3 epochs", null, [3]])
    t.is(parseDuration(value), undefined, JSON.stringify(value));
});

test("bytes are numbers, binary and decimal units", (t) => {
  t.is(parseBytes("8GiB"), 8 * 2 ** 30);
  t.is(parseBytes("500 MB"), 5e8);
  t.is(parseBytes("1.5 KiB"), 1536);
  t.is(parseBytes(4096), 4096);
  for (const value of ["", "GiB", "0", -1, "8 GiBs", 1.5]) t.is(parseBytes(value), undefined, JSON.stringify(value));
});

test("canonical JSON sorts keys, drops what is absent, and refuses what JSON cannot say", (t) => {
  t.is(canonicalJson({ b: [1, { d: null, c: "x" }], a: 1e-8, u: undefined }), '{"a":1e-8,"b":[1,{"c":"x","d":null}]}');
  t.throws(() => canonicalJson({ a: Number.NaN }), { instanceOf: RangeError });
});

test("the nearest name is one that could have been meant", (t) => {
  t.is(editDistance("abcd", "abdc"), 1);
  t.is(editDistance("", "abc"), 3);
  t.is(nearestName("weight_decay", ["weightDecay", "beta1"]), "weightDecay");
  t.is(nearestName("lr", ["steps", "evaluation"]), undefined);
});
