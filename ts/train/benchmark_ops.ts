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
  const seconds: number[][] = commands.map(() => []);
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
    if (step === 0) continue;
    profile!.forEach((p, i) => void seconds[i]!.push(p.seconds));
    contexts += context;
  }
  return summarize(
    commands,
    seconds.map((each) => median(each)!),
    (contexts / steps + 1) / (length + 1),
  );
}

function shapesOf(program: Program, c: ProgramCommand): string {
  const shapes = c.operands.flatMap((i) => (i < 0 ? [] : [`[${program.tensors[i]!.shape.join(",")}]`]));
  return shapes.slice(0, 3).join(" ");
}

/** `visible`: the share of the pairs of whole sequences that attention computes. */
function summarize(
  commands: readonly { program: Program; command: ProgramCommand }[],
  times: number[],
  visible: number,
): OpTiming[] {
  const total = times.reduce((a, b) => a + b, 0);
  const groups = new Map<string, { op: string; shapes: string; times: number[]; flops: number; bytes: number }>();
  commands.forEach(({ program, command }, i) => {
    const shapes = shapesOf(program, command);
    const key = `${command.op} ${shapes}`;
    const { flops: whole, bytes } = commandCost(program, command);
    const flops = command.op.startsWith("attention") ? whole * visible : whole;
    const group = groups.get(key) ?? { op: command.op, shapes, times: [], flops, bytes };
    group.times.push(times[i]!);
    groups.set(key, group);
  });
  return [...groups.values()]
    .map(({ op, shapes, times: own, flops, bytes }) => {
      const each = median(own)!;
      const share = own.reduce((a, b) => a + b, 0) / total;
      const rates = { gflops: flops / each / 1e9, gigabytesPerSecond: bytes / each / 1e9 };
      return { op, shapes, calls: own.length, milliseconds: 1e3 * each, ...rates, share };
    })
    .sort((a, b) => b.share - a.share);
}
