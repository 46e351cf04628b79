import { dtypeBytes, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import type { Program, ProgramCommand, ProgramTensor } from "../engine/program.ts";
import { fuse } from "./fuse.ts";
import type { Layout } from "./layout.ts";
import { type OpRule, operandNames } from "./op.ts";
import { families, ops } from "./ops/index.ts";
import { type MemoryPlan, planMemory, type Reuse } from "./plan.ts";
import { infer, type Typed } from "./shapes.ts";
import type { Tape, Tensor } from "./tape.ts";

export interface Lowered {
  program: Program;
  memory: MemoryPlan;
}

export interface LowerOptions {
  reuse?: Reuse;
  /** Make one command of those that have a fused form, see fuse.ts. Default: no. */
  fuse?: boolean;
}

/** Lowers what a tape recorded to a Program over the addresses of `layout`. Throws BAD_PROGRAM on tensors it lacks. */
export function lower(tape: Tape, name: string, layout: Layout, options: LowerOptions = {}): Lowered {
  const played = options.fuse ? fuse(tape.commands) : tape.commands;
  const memory = planMemory(played, options);
  const tensors: ProgramTensor[] = [];
  const indices = new Map<Tensor, number>();
  const indexOf = (t: Tensor | undefined): number => {
    if (!t) return -1;
    let index = indices.get(t);
    if (index === undefined) {
      index = tensors.push({ name: t.name, dtype: t.dtype, shape: t.shape, space: t.space, offset: address(t) }) - 1;
      indices.set(t, index);
    }
    return index;
  };
  const address = (t: Tensor): number => {
    if (t.space === "scratch") return memory.offsets.get(t.root)! + t.byteOffset;
    const laid = layout.get(t.root.name);
    if (laid.dtype !== t.dtype || String(laid.shape) !== String(t.root.shape))
      throw new ThalwegError(
        "BAD_PROGRAM",
        `program ${name}: ${laid.name} is ${t.dtype} [${t.root.shape}], laid out as ${laid.dtype} [${laid.shape}]`,
      );
    return laid.offset + t.byteOffset;
  };
  const commands: ProgramCommand[] = played.map((c) => ({
    op: c.rule.name,
    label: c.label,
    operands: operandNames(c.rule).map((operand) => indexOf(c.inputs[operand] ?? c.outputs[operand])),
    attributes: Object.keys(c.rule.attributes).map((attribute) => c.attributes[attribute]!),
  }));
  return { program: { name, tensors, commands, scratchBytes: memory.bytes }, memory };
}

const familyOf = new Map(
  Object.entries(families).flatMap(([family, declared]) => Object.values(declared).map((rule) => [rule.name, family])),
);

interface Call {
  rule: OpRule;
  operands: Readonly<Record<string, ProgramTensor | undefined>>;
  attributes: Readonly<Record<string, number>>;
}

function callOf(program: Program, c: ProgramCommand): Call {
  const rule = ops.get(c.op);
  if (!rule) throw new ThalwegError("BAD_PROGRAM", `program ${program.name}: unknown op ${c.op} (${c.label})`);
  const operands = Object.fromEntries(operandNames(rule).map((name, i) => [name, program.tensors[c.operands[i]!]]));
  const attributes = Object.fromEntries(Object.keys(rule.attributes).map((name, i) => [name, c.attributes[i]!]));
  return { rule, operands, attributes };
}

const pick = (call: Call, names: object): Record<string, Typed | undefined> =>
  Object.fromEntries(Object.keys(names).map((name) => [name, call.operands[name]]));

export interface Cost {
  calls: number;
  /** Floating-point operations, a multiply-add counted as two. */
  flops: number;
  /** Bytes of all operands, each counted once per call. */
  bytes: number;
}

/** What one command does. Throws BAD_PROGRAM when it does not fit its op. */
export function commandCost(program: Program, c: ProgramCommand): Cost {
  const call = callOf(program, c);
  const operands = { inputs: pick(call, call.rule.inputs), outputs: pick(call, call.rule.outputs) };
  const { dims } = infer(call.rule, c.label, operands, call.attributes, { precision: "f32" });
  let bytes = 0;
  for (const t of Object.values(call.operands)) if (t) bytes += numel(t.shape) * dtypeBytes[t.dtype];
  return { calls: 1, flops: call.rule.flops(dims), bytes };
}

/** What one replay of a Program does, in all and per op family. Throws BAD_PROGRAM when a command does not fit its op. */
export function programCost(program: Program): { total: Cost; byFamily: Record<string, Cost> } {
  const total: Cost = { calls: 0, flops: 0, bytes: 0 };
  const byFamily: Record<string, Cost> = {};
  for (const c of program.commands) {
    const one = commandCost(program, c);
    const family = (byFamily[familyOf.get(c.op)!] ??= { calls: 0, flops: 0, bytes: 0 });
    for (const cost of [total, family]) {
      cost.calls += 1;
      cost.flops += one.flops;
      cost.bytes += one.bytes;
    }
  }
  return { total, byFamily };
}

function describe(t: ProgramTensor | undefined): string {
  if (!t) return "-";
  const where = t.space === "persistent" ? `"${t.name}"` : `@${t.offset}`;
  return `${where} ${t.dtype}[${t.shape.join(",")}]`;
}

/** A Program as text, one command a line: `outputs = op(inputs) {attributes}  # label`; scratch tensors by address. */
export function formatProgram(program: Program): string {
  const { total, byFamily } = programCost(program);
  const lines = program.commands.map((c, i) => {
    const call = callOf(program, c);
    const list = (names: object) =>
      Object.keys(names)
        .map((name) => `${name}: ${describe(call.operands[name])}`)
        .join(", ");
    const attributes = Object.entries(call.attributes)
      .map(([name, value]) => `${name}=${Number(value.toPrecision(6))}`)
      .join(" ");
    const note = attributes ? ` {${attributes}}` : "";
    return `${String(i).padStart(4)}  ${list(call.rule.outputs)} = ${c.op}(${list(call.rule.inputs)})${note}  # ${c.label}`;
  });
  const costs = Object.entries(byFamily).map(
    ([family, cost]) => `# ${family}: ${cost.calls} calls, ${cost.flops} FLOPs, ${cost.bytes} bytes`,
  );
  return [
    `program ${program.name}: ${total.calls} commands, ${program.scratchBytes} bytes of scratch, ${total.flops} FLOPs, ${total.bytes} bytes of operands`,
    ...lines,
    ...costs,
    "",
  ].join("\n");
}
