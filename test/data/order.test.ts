import test from "ava";
import fc from "fast-check";
import { Permutation } from "../../ts/data/order.ts";

const walk = (size: number, seed: number, epoch: number) => {
  const permutation = new Permutation(size, seed, epoch);
  return Array.from({ length: size }, (_, i) => permutation.permute(i));
};

test("an epoch visits each block once, whatever their number", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer(), fc.nat(50), (size, seed, epoch) => {
      t.deepEqual(
        walk(size, seed, epoch).sort((a, b) => a - b),
        Array.from({ length: size }, (_, i) => i),
      );
    }),
    { numRuns: 100 },
  );
});

test("inverse finds the place of a block, up to the largest sizes", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 52 }), fc.nat(), fc.integer(), (size, place, seed) => {
      const permutation = new Permutation(size, seed, 0);
      const index = place % size;
      const value = permutation.permute(index);
      t.true(value >= 0 && value < size);
      t.is(permutation.inverse(value), index);
    }),
  );
});

test("each epoch and each seed has an order of its own", (t) => {
  const orders = [walk(500, 1, 0), walk(500, 1, 1), walk(500, 2, 0)];
  for (const [i, a] of orders.entries()) {
    for (const b of orders.slice(i + 1)) {
      // Two random permutations agree at one place on average; 10 or more is a chance of 1e-7.
      t.true(a.filter((value, place) => value === b[place]).length < 10);
    }
  }
});

test("the order of a seed is pinned: it must never change, or resumed runs would see other data", (t) => {
  t.deepEqual(walk(12, 7, 3), [3, 2, 11, 8, 7, 10, 0, 9, 6, 4, 5, 1]);
});

test("neighbouring places have nothing in common", (t) => {
  const size = 20_000;
  for (const seed of [1, 2, 3]) {
    const order = walk(size, seed, seed).map((value) => (value + 0.5) / size - 0.5);
    for (let lag = 1; lag <= 64; lag++) {
      let sum = 0;
      for (let i = 0; i + lag < size; i++) sum += order[i]! * order[i + lag]!;
      // Correlation of independent uniforms has deviation 1/sqrt(n); 5 of them at 192 trials is a chance of 1e-4, and
      // the seeds are fixed.
      const correlation = (12 * sum) / (size - lag);
      t.true(Math.abs(correlation) < 5 / Math.sqrt(size), `seed ${seed} lag ${lag}: ${correlation}`);
    }
  }
});

test("differences of neighbours are spread evenly, unlike those of a linear-congruential order", (t) => {
  const size = 4096;
  const order = walk(size, 9, 0);
  const differences = new Set(order.slice(1).map((value, i) => (value - order[i]! + size) % size));
  // Random differences leave a share of 1/e unused; a linear-congruential order has a handful of values.
  t.true(differences.size > 0.55 * size, `${differences.size} distinct differences`);
});

test("a place outside the order is refused", (t) => {
  const permutation = new Permutation(10, 0, 0);
  for (const index of [-1, 10, 0.5, Number.NaN]) {
    t.throws(() => permutation.permute(index), { instanceOf: RangeError });
    t.throws(() => permutation.inverse(index), { instanceOf: RangeError });
  }
  t.throws(() => new Permutation(0, 0, 0), { instanceOf: RangeError });
});
