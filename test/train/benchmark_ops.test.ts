import test from "ava";
import type { Program } from "../../ts/engine/program.ts";
import { timedTogether } from "../../ts/train/benchmark_ops.ts";

const program = {} as Program;
const placed = (...ops: string[]) =>
  ops.map((op) => ({ program, command: { op, label: "", operands: [], attributes: [] } }));
const groups = (ops: string[], profile: string[]) =>
  timedTogether(
    placed(...ops),
    profile.map((op) => ({ op })),
  ).map(({ commands }) => commands.map((c) => c.command.op).join(" "));

test("a profile with an entry for each command gives each its own time", (t) => {
  const ops = ["linear", "linear", "rope", "gradNorm", "adamw", "adamw"];
  t.deepEqual(groups(ops, ops), ops);
});

test("successive commands that a device plays as one share its time, and those behind keep theirs", (t) => {
  const ops = ["linear", "linear", "gradNorm", "adamw", "adamw", "adamw", "average"];
  t.deepEqual(groups(ops, ["linear", "linear", "gradNorm", "adamw", "average"]), [
    "linear",
    "linear",
    "gradNorm",
    "adamw adamw adamw",
    "average",
  ]);
  t.deepEqual(groups(["gradNorm", "adamw", "adamw"], ["gradNorm", "adamw"]), ["gradNorm", "adamw adamw"]);
});
