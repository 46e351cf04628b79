import test from "ava";
import fc from "fast-check";
import { ALIGNMENT } from "../../ts/engine/program.ts";
import { add, linear, rmsnorm, swiglu } from "../../ts/graph/functions.ts";
import { Layout } from "../../ts/graph/layout.ts";
import { copy, scale } from "../../ts/graph/ops/elementwise.ts";
import { type MemoryPlan, planMemory } from "../../ts/graph/plan.ts";
import { lower } from "../../ts/graph/program.ts";
import { Tape, type Tensor } from "../../ts/graph/tape.ts";
import { generator, ReferenceMachine } from "./reference.ts";

/** One step of a random graph: an op on tensors chosen among those made so far. */
interface Step {
  op: "add" | "scale" | "linear" | "residual" | "rmsnorm" | "swiglu" | "chunks";
  a: number;
  b: number;
}

const rows = 4;
const dim = 24; // 4 x 24 fp32 = 384 bytes: several cache lines, so that offsets matter

const steps = fc.array(
  fc.record({
    op: fc.constantFrom<Step["op"]>("add", "scale", "linear", "residual", "rmsnorm", "swiglu", "chunks"),
    a: fc.nat(30),
    b: fc.nat(30),
  }),
  { minLength: 1, maxLength: 25 },
);

/** Records the steps; some results are read again at the very end, so lifetimes of all lengths occur. */
function record(list: readonly Step[]): { tape: Tape; layout: Layout } {
  const tape = new Tape();
  const layout = new Layout();
  const persistent = (name: string, ...shape: number[]) => {
    layout.add(name, "f32", shape);
    return tape.persistent(name, "f32", shape);
  };
  const weight = persistent("param/w", dim, dim);
  const wide = persistent("param/wide", 2 * dim, dim);
  const gain = persistent("param/gain", dim);
  const made: Tensor[] = [linear(persistent("x", rows, dim), weight)];
  for (const { op, a, b } of list) {
    const [x, y] = [made[a % made.length]!, made[b % made.length]!];
    if (op === "add") made.push(add(x, y));
    else if (op === "scale") made.push(tape.op(scale, { x }, { alpha: 0.5 }).y);
    else if (op === "linear") made.push(linear(x, weight));
    else if (op === "residual") made.push(linear(x, weight, { residual: y }));
    else if (op === "rmsnorm") made.push(rmsnorm(x, gain, { eps: 1e-5 }));
    else if (op === "swiglu") made.push(swiglu(linear(x, wide)));
    else {
      const into = tape.empty("whole", "f32", [rows, dim]);
      for (const [start, count] of [
        [0, 1],
        [1, 3],
      ] as const)
        tape.op(scale, { x: x.rows(start, count) }, { alpha: 2 }, { into: { y: into.rows(start, count) } });
      made.push(into);
    }
  }
  made.forEach((x, i) => {
    if (i % 3 === 0 || i === made.length - 1)
      tape.op(copy, { x }, {}, { into: { y: persistent(`out/${i}`, rows, dim) } });
  });
  return { tape, layout };
}

/** Every byte remembers the tensor last written there; a read that finds another tensor's byte is an error. */
function readsFindWhatWasWritten(tape: Tape, plan: MemoryPlan): string | null {
  const owner = new Array<Tensor | undefined>(plan.bytes);
  const range = (t: Tensor) => {
    const start = plan.offsets.get(t.root)! + t.byteOffset;
    return [start, start + t.bytes] as const;
  };
  for (const c of tape.commands) {
    for (const [name, t] of Object.entries(c.inputs)) {
      if (t?.space !== "scratch") continue;
      const [start, end] = range(t);
      for (let i = start; i < end; i++) if (owner[i] !== t.root) return `${c.label}: ${name} finds ${owner[i]?.name}`;
    }
    for (const t of Object.values(c.outputs)) if (t?.space === "scratch") owner.fill(t.root, ...range(t));
  }
  return null;
}

test("no tensor is overwritten while it is still to be read, for random graphs", (t) => {
  fc.assert(
    fc.property(steps, (list) => {
      const { tape } = record(list);
      const plan = planMemory(tape.commands);
      t.is(readsFindWhatWasWritten(tape, plan), null);
      for (const [tensor, offset] of plan.offsets) {
        t.is(offset % ALIGNMENT, 0);
        t.true(offset + tensor.bytes <= plan.bytes);
      }
      t.true(plan.peak.bytes <= plan.bytes);
      t.true(plan.bytes <= planMemory(tape.commands, { reuse: "none" }).bytes);
    }),
    { seed: 11, numRuns: 300 },
  );
  t.pass();
});

test("playing with reused memory gives the bits of memory of its own for each tensor, for random graphs", (t) => {
  fc.assert(
    fc.property(steps, (list) => {
      const { tape, layout } = record(list);
      const results = (["all", "none"] as const).map((reuse) => {
        const machine = new ReferenceMachine({ persistentBytes: layout.bytes, persistent: layout.tensors });
        const random = generator(5);
        for (const { name } of layout.tensors)
          if (!name.startsWith("out/"))
            machine.set(
              name,
              machine.tensor(name).map(() => random()),
            );
        machine.play(lower(tape, "random", layout, { reuse }).program);
        return layout.tensors
          .filter(({ name }) => name.startsWith("out/"))
          .map(({ name }) => machine.tensor(name).slice());
      });
      t.true(results[0]!.every((values) => values.every(Number.isFinite)));
      t.deepEqual(results[0], results[1]);
    }),
    { seed: 12, numRuns: 100 },
  );
  t.pass();
});

test("a chain of in-place ops needs the memory of one tensor", (t) => {
  const tape = new Tape();
  let x = linear(tape.persistent("x", "f32", [rows, dim]), tape.persistent("w", "f32", [dim, dim]));
  for (let i = 0; i < 5; i++) x = tape.op(scale, { x }, { alpha: 2 }).y;
  t.is(planMemory(tape.commands).bytes, rows * dim * 4);
});

test("an input that is given twice is not overwritten: the other operand still reads it", (t) => {
  const tape = new Tape();
  const w = tape.persistent("w", "f32", [dim, dim]);
  const x = linear(tape.persistent("x", "f32", [rows, dim]), w);
  const y = linear(x, w, { residual: x });
  const { offsets } = planMemory(tape.commands);
  t.not(offsets.get(x), offsets.get(y));
});

test("an input that is read later, or through a view, keeps its memory", (t) => {
  const tape = new Tape();
  const x = linear(tape.persistent("x", "f32", [rows, dim]), tape.persistent("w", "f32", [dim, dim]));
  const y = tape.op(scale, { x }, { alpha: 2 }).y;
  const top = tape.op(scale, { x: x.rows(0, 2) }, { alpha: 3 }).y;
  const { offsets } = planMemory(tape.commands);
  t.not(offsets.get(x), offsets.get(y));
  t.not(offsets.get(x), offsets.get(top));
});

test("the peak is reported with its command and by purpose", (t) => {
  const tape = new Tape();
  const w = tape.persistent("w", "f32", [dim, dim]);
  const x = linear(tape.persistent("x", "f32", [rows, dim]), w, {});
  const y = tape.purpose("logits", () => linear(x, w));
  linear(y, w, { residual: x });
  const { peak } = planMemory(tape.commands);
  const one = rows * dim * 4;
  t.deepEqual(peak, { bytes: 2 * one, label: "linear", byPurpose: { activations: one, logits: one } });
});
