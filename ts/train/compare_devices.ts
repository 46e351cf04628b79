import type { DeviceChoice } from "../base/device.ts";
import { type DType, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import { Engine, type TensorData } from "../engine/engine.ts";
import type { Program, ProgramCommand } from "../engine/program.ts";
import { operandNames } from "../graph/op.ts";
import { ops } from "../graph/ops/index.ts";
import type { BuiltModule } from "../model/build.ts";
import { type AdamScalars, adamScalars } from "../optim/adamw.ts";
import { randomBatch } from "./benchmark.ts";
import { loadModule, playIntegers } from "./module_machine.ts";

/** One command of a Program on two devices, given the same operands. */
export interface CommandComparison {
  program: string;
  index: number;
  op: string;
  label: string;
  /** The operand in which the two differ most. */
  operand: string;
  /** |a - b| / |a| in the Euclidean norm; 0 when the bits are equal, Infinity when only one of them is finite. */
  relativeError: number;
  /** Largest |a - b| of one element. */
  largest: number;
}

export interface CompareDevicesOptions {
  built: BuiltModule;
  kinds: readonly ("accumulate" | "update" | "evaluate")[];
  /** The first one is the reference: every command starts from what it computed. */
  devices: readonly [DeviceChoice, DeviceChoice];
  vocab: number;
  batch: number;
  length: number;
  optimizer: Omit<AdamScalars, "step" | "lr" | "lossScale">;
  seed?: number | undefined;
  onCommand?: ((done: number, total: number) => void) | undefined;
}

const MAX_ARENA = 2 ** 31;

/**
 * Plays Programs command by command on two devices. Both get the operands that the first device left, so a difference
 * belongs to the command it is reported at and does not grow along the way.
 */
export async function compareDevices(options: CompareDevicesOptions): Promise<CommandComparison[]> {
  const { built, batch, length, devices } = options;
  const programs = options.kinds.map((kind) => {
    const program = built.programs[kind];
    if (!program) throw new ThalwegError("BAD_OPTION", `the model was built without a Program ${kind}`);
    return program;
  });
  await using reference = await Engine.create({ device: devices[0] });
  await using other = await Engine.create({ device: devices[1] });
  const { tokens, targets } = randomBatch(options.vocab, batch, length, options.seed ?? 1, 0);
  const persistent = await initialArena(reference, built, options.seed ?? 1, { tokens, targets });
  const step = {
    scalars: adamScalars({ ...options.optimizer, step: 0, lr: 1e-3, lossScale: 1 / (batch * length) }),
    integers: playIntegers({ firstMicroBatch: 1 }),
  };
  const total = programs.reduce((sum, p) => sum + p.commands.length, 0);
  const found: CommandComparison[] = [];
  for (const program of programs) {
    const arenas = { persistent, scratch: arena(program.scratchBytes) };
    for (const [index, command] of program.commands.entries()) {
      const operands = command.operands.map((i) => (i < 0 ? null : operandOf(program, i, arenas)));
      const run = (engine: Engine) => engine.runOp(command.op, operands, command.attributes, { ...step, packed: true });
      const [mine, theirs] = [await run(reference), await run(other)];
      found.push({ program: program.name, index, ...worst(command, mine.operands, theirs.operands) });
      command.operands.forEach((i, at) => {
        if (i >= 0) view(program, i, arenas).set(mine.operands[at] as never);
      });
      options.onCommand?.(found.length, total);
    }
  }
  return found;
}

type Arenas = Record<"persistent" | "scratch", ArrayBuffer>;

function arena(bytes: number): ArrayBuffer {
  if (bytes > MAX_ARENA)
    throw new ThalwegError(
      "BAD_OPTION",
      `this Program needs ${bytes} bytes of one kind, but a comparison keeps them in JavaScript (at most ${MAX_ARENA}). Compare a smaller model, batch or length.`,
    );
  return new ArrayBuffer(bytes);
}

const arrays = { f32: Float32Array, i32: Int32Array, bf16: Uint16Array };

function view(program: Program, index: number, arenas: Arenas): TensorData {
  const { dtype, shape, space, offset } = program.tensors[index]!;
  return new arrays[dtype](arenas[space], offset, numel(shape));
}

function operandOf(program: Program, index: number, arenas: Arenas) {
  const { dtype, shape } = program.tensors[index]!;
  return { dtype, shape, data: view(program, index, arenas) };
}

/** The persistent tensors as a run starts: weights drawn, constants, one batch; the rest zero. */
async function initialArena(
  engine: Engine,
  built: BuiltModule,
  seed: number,
  inputs: { tokens: Int32Array; targets: Int32Array },
): Promise<ArrayBuffer> {
  const memory = arena(built.spec.persistentBytes);
  const module = await loadModule(engine, { ...built, spec: { ...built.spec, programs: [] } }, seed);
  await module.write("io/tokens", inputs.tokens);
  await module.write("io/targets", inputs.targets);
  for (const { name, dtype, offset, shape } of built.spec.persistent)
    new arrays[dtype](memory, offset, numel(shape)).set((await module.read(name)) as never);
  await module.dispose();
  return memory;
}

function worst(command: ProgramCommand, mine: (TensorData | null)[], theirs: (TensorData | null)[]) {
  const names = operandNames(ops.get(command.op)!);
  let operand = "";
  let most = { relativeError: -1, largest: 0 };
  for (const [i, a] of mine.entries()) {
    if (a === null) continue;
    const difference = compare(a, theirs[i]!);
    if (difference.relativeError <= most.relativeError) continue;
    most = difference;
    operand = names[i]!;
  }
  return { op: command.op, label: command.label, operand, ...most };
}

const bits = new Uint32Array(1);
const real = new Float32Array(bits.buffer);

function realOf(array: TensorData, i: number): number {
  if (!(array instanceof Uint16Array)) return array[i]!;
  bits[0] = array[i]! << 16;
  return real[0]!;
}

function compare(a: TensorData, b: TensorData): { relativeError: number; largest: number } {
  let [difference, size, largest] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) {
      const x = realOf(a, i);
      if (Number.isFinite(x)) size += x * x;
      continue;
    }
    const [x, y] = [realOf(a, i), realOf(b, i)];
    if (Number.isNaN(x) && Number.isNaN(y)) continue;
    if (!Number.isFinite(x) || !Number.isFinite(y)) return { relativeError: Infinity, largest: Infinity };
    difference += (x - y) ** 2;
    size += x * x;
    largest = Math.max(largest, Math.abs(x - y));
  }
  return { relativeError: difference === 0 ? 0 : Math.sqrt(difference / (size || Number.MIN_VALUE)), largest };
}

/** What one command may differ by, relative to its result: a few roundings to the compute precision. */
export function toleranceOf(precision: DType): number {
  return precision === "bf16" ? 1e-2 : 1e-4;
}
