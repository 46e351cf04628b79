/** What is predicted of a training step on a GPU is about the commands that the step has. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import anyTest from "ava";
import { commandCost } from "../../ts/graph/program.ts";
import { flopsPerToken } from "../../ts/model/presets.ts";
import { buildBenchModel } from "../../ts/train/benchmark_model.ts";
import { opShapes } from "../../ts/train/benchmark_ops.ts";

const program = join(import.meta.dirname, "../../out/native/kernel_bench");
/** `npm test` builds it; a single test file can be run without. */
const test = existsSync(program) ? anyTest : anyTest.skip;

interface Predicted {
  model: string;
  sequences: number;
  op: string;
  shapes: string;
  calls: number;
  flops: number;
  bytes: number;
  seconds: number;
  floor: number;
}

test("the predicted step of each of the paper's models has the commands of its Programs, their calls and their work", (t) => {
  const lines = execFileSync(program, ["--predict-step"], { encoding: "utf8" }).trim().split("\n");
  const predicted = lines.map((line) => JSON.parse(line) as Predicted);
  for (const name of ["paper-0.1b", "paper-0.3b", "paper-0.6b", "paper-1.2b"]) {
    const own = predicted.filter((p) => p.model === name);
    const batch = own[0]!.sequences;
    const { built, model } = buildBenchModel({ preset: name, precision: "bf16", batch, length: 4096 });
    const calls = new Map<string, number>();
    const work = new Map<string, { flops: number; bytes: number }>();
    for (const part of ["accumulate", "update"]) {
      const { commands } = built.programs[part]!;
      const updates = commands.filter((c) => c.op === "adamw").length;
      for (const command of commands) {
        const merged = command.op === "adamw"; // one launch over all tensors
        const key = merged ? `adamw ${updates} tensors` : `${command.op} ${opShapes(built.programs[part]!, command)}`;
        calls.set(key, merged ? 1 : (calls.get(key) ?? 0) + 1);
        work.set(key, commandCost(built.programs[part]!, command));
      }
    }
    t.deepEqual(Object.fromEntries(own.map((p) => [`${p.op} ${p.shapes}`, p.calls])), Object.fromEntries(calls), name);
    for (const p of own) {
      const cost = work.get(`${p.op} ${p.shapes}`)!;
      // SwiGLU's own operations, not counted there, are less than a percent of its products'.
      if (p.flops > 0) t.true(Math.abs(p.flops / cost.flops - 1) < 0.01, `${name} ${p.op} ${p.shapes}`);
      t.true(p.seconds > p.floor, `${name} ${p.op} ${p.shapes} beats its floor`);
    }
    // 6 N + 6 layers dim T counts attention's diagonal once and nothing twice; the products make up all of it.
    const modelFlops = flopsPerToken(model, 4096) * batch * 4096;
    const predictedFlops = own.reduce((sum, p) => sum + p.calls * p.flops, 0);
    // Attention's gradient computes its scores again: five products of the four that count.
    const again = own.filter((p) => p.op === "attentionBackward").reduce((sum, p) => sum + (p.calls * p.flops) / 5, 0);
    t.true(Math.abs((predictedFlops - again) / modelFlops - 1) < 0.001, name);
  }
});
