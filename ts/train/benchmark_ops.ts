import type { DeviceChoice } from "../base/device.ts";
import { median } from "../base/statistics.ts";
import { Engine } from "../engine/engine.ts";
import type { Program, ProgramCommand } from "../engine/program.ts";
import { commandCost } from "../graph/program.ts";
import { adamDefaults, adamScalars } from "../optim/adamw.ts";
import { randomBatch } from "./benchmark.ts";
import { type BenchModelOptions, buildBenchModel } from "./benchmark_model.ts";
import { loadModule, playIntegers } from "./module_machine.ts";

export interface BenchOpsOptions extends Omit<BenchModelOptions, "microBatch"> {
  /** Training steps measured; a command's time is its median over them. */
  steps?: number | undefined;
  threads?: number | undefined;
  device?: DeviceChoice | undefined;
}

/** All commands of a training step with the same op and shapes. */
export interface OpTiming {
  op: string;
  shapes: string;
  calls: number;
  /** Per call, median. */
  milliseconds: number;
  gflops: number;
  /** Bytes of all operands over the time. */
  gigabytesPerSecond: number;
  /** Share of the step's kernel time, 0..1. */
  share: number;
}

/**
 * Times every kernel of a training step where it stands: in the Program, on the data and in the cache state that training
 * gives it.
 */
export async function benchOps(options: BenchOpsOptions): Promise<OpTiming[]> {
  const { steps = 7, threads = 0, device = "auto" } = options;
  const { model, batch, length, built } = buildBenchModel(options);
  await using engine = await Engine.create({ device, threads });
  const module = await loadModule(engine, built, 1);
  const commands = ["accumulate", "update"].flatMap((name) => {
    const program = built.programs[name]!;
    return program.commands.map((command) => ({ program, command }));
  });
  let timed: Timed[] = [];
  let contexts = 0;
  for (let step = 0; step < steps + 1; step++) {
    const drawn = randomBatch(model.vocab, batch, length, 1, step, options.documents);
    const { tokens, targets, starts, context = length } = drawn;
    const scalars = adamScalars({ ...adamDefaults, step, lr: 1e-3, lossScale: 1 / tokens.length });
    const { profile } = await module.play(
      [
        {
          program: "accumulate",
          inputs: { "io/tokens": tokens, "io/targets": targets, ...(starts && { "io/starts": starts }) },
          integers: playIntegers({ firstMicroBatch: 1 }),
          scalars,
        },
        { program: "update", scalars },
      ],
      { profile: true },
    );
    if (step === 0) {
      timed = timedTogether(commands, profile!);
      continue;
    }
    profile!.forEach((p, i) => void timed[i]!.seconds.push(p.seconds));
    contexts += context;
  }
  return summarize(timed, (contexts / steps + 1) / (length + 1));
}

interface Placed {
  program: Program;
  command: ProgramCommand;
}

/** Commands that a device plays as one, and how long that took. */
interface Timed {
  commands: readonly Placed[];
  seconds: number[];
}

/** Commands of each entry of a profile: a device may play successive ones of an op at once (CUDA: all of adamw). */
export function timedTogether(commands: readonly Placed[], profile: readonly { op: string }[]): Timed[] {
  let at = 0;
  return profile.map(({ op }, i) => {
    const first = at++;
    let spare = commands.length - at - (profile.length - i - 1); // commands that have no entry of their own
    while (spare-- > 0 && commands[at]!.command.op === op && profile[i + 1]?.op !== op) at++;
    return { commands: commands.slice(first, at), seconds: [] };
  });
}

/** The shapes of a command's first operands: with its op what tells commands of a step apart. */
export function opShapes(program: Program, c: ProgramCommand): string {
  const shapes = c.operands.flatMap((i) => (i < 0 ? [] : [`[${program.tensors[i]!.shape.join(",")}]`]));
  return shapes.slice(0, 3).join(" ");
}

/** `visible`: the share of the pairs of whole sequences that attention computes. */
function summarize(timed: readonly Timed[], visible: number): OpTiming[] {
  const groups = new Map<string, { op: string; shapes: string; times: number[]; flops: number; bytes: number }>();
  let total = 0;
  for (const { commands, seconds } of timed) {
    const { program, command } = commands[0]!;
    const { op } = command;
    const shapes = commands.length > 1 ? `${commands.length} tensors` : opShapes(program, command);
    const costs = commands.map((c) => commandCost(c.program, c.command));
    const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
    const flops = sum(costs.map((c) => c.flops)) * (op.startsWith("attention") ? visible : 1);
    const bytes = sum(costs.map((c) => c.bytes));
    const key = `${op} ${shapes}`;
    const group = groups.get(key) ?? { op, shapes, times: [], flops, bytes };
    group.times.push(median(seconds)!);
    total += group.times.at(-1)!;
    groups.set(key, group);
  }
  return [...groups.values()]
    .map(({ op, shapes, times: own, flops, bytes }) => {
      const each = median(own)!;
      const share = own.reduce((a, b) => a + b, 0) / total;
      const rates = { gflops: flops / each / 1e9, gigabytesPerSecond: bytes / each / 1e9 };
      return { op, shapes, calls: own.length, milliseconds: 1e3 * each, ...rates, share };
    })
    .sort((a, b) => b.share - a.share);
}
