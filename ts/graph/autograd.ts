import { ThalwegError } from "../base/errors.ts";
import type { BackwardCall, OpRule } from "./op.ts";
import { ops } from "./ops/index.ts";
import { replay } from "./recompute.ts";
import { Accumulate } from "./step_inputs.ts";
import type { Tape, TapeCommand, Tensor } from "./tape.ts";

/**
 * Which activations the backward pass finds in memory. `none` keeps them all; `block` keeps only what enters each block
 * and records the block's forward commands again before its backward. The bits are the same.
 */
export type Recompute = "none" | "block";

/**
 * The order in which terms of a gradient are added: `ordered` is fixed, and gives the same bits always; `any` leaves it to
 * ops that have the attribute `anyOrder`, whose kernels may then be faster and their last bits vary.
 */
export type GradientSums = "ordered" | "any";

/** Whether a tensor depends on a parameter: only such tensors get gradients. */
function dependents(commands: readonly TapeCommand[], extra: readonly Tensor[]): Set<Tensor> {
  const needs = new Set<Tensor>(extra);
  for (const c of commands) {
    const inputs = Object.values(c.inputs);
    if (!inputs.some((t) => t && (t.parameter !== undefined || needs.has(t) || needs.has(t.root)))) continue;
    for (const t of Object.values(c.outputs)) if (t) needs.add(t).add(t.root);
  }
  return needs;
}

function refuseParameter(t: Tensor, c: TapeCommand, op: string): never {
  throw new ThalwegError(
    "NOT_DIFFERENTIABLE",
    `parameter ${t.parameter} (${c.label}) gets its gradient from ${op}, which cannot accumulate into it`,
  );
}

/** One backward pass over the commands recorded so far. */
class Backward {
  readonly gradients = new Map<Tensor, Tensor>();
  private readonly tape: Tape;
  private readonly needs: Set<Tensor>;
  private readonly sums: GradientSums;
  /** Forward tensor -> its recomputed twin. */
  private readonly twins = new Map<Tensor, Tensor>();

  constructor(tape: Tape, needs: Set<Tensor>, sums: GradientSums) {
    this.tape = tape;
    this.needs = needs;
    this.sums = sums;
  }

  run(commands: readonly TapeCommand[], recompute: Recompute): void {
    const replayed = new Set<string>();
    for (const c of commands.toReversed()) {
      const arrived = Object.entries(c.outputs).filter(([, t]) => t && this.gradients.has(t));
      if (arrived.length === 0) continue;
      this.refuse(
        c,
        arrived.map(([name]) => name),
      );
      if (recompute === "block" && c.block !== undefined && !replayed.has(c.block)) {
        replayed.add(c.block);
        for (const [from, to] of replay(this.tape, commands, c.block)) this.twins.set(from, to);
      }
      for (const call of c.rule.backward!.calls ?? []) this.call(c, call);
      for (const [input, output] of Object.entries(c.rule.backward!.same ?? {})) {
        const target = c.inputs[input];
        const gradient = this.gradients.get(c.outputs[output]!);
        if (!target || !gradient || !this.wants(target)) continue;
        if (target.parameter !== undefined) refuseParameter(target, c, c.rule.name);
        this.contribute(target, gradient, c.label);
      }
    }
  }

  private wants(t: Tensor | undefined): boolean {
    return t !== undefined && (t.parameter !== undefined || this.needs.has(t) || this.needs.has(t.root));
  }

  /** Throws when a gradient arrived where the op has no rule for it. */
  private refuse(c: TapeCommand, arrived: readonly string[]): void {
    const rule = c.rule.backward;
    if (!rule) throw new ThalwegError("NOT_DIFFERENTIABLE", `op ${c.rule.name} (${c.label}) declares no backward rule`);
    const known = new Set([
      ...(rule.calls ?? []).flatMap((call) => Object.values(call.inputs)),
      ...Object.values(rule.same ?? {}).map((output) => `d${output}`),
    ]);
    for (const output of arrived)
      if (!known.has(`d${output}`))
        throw new ThalwegError(
          "NOT_DIFFERENTIABLE",
          `op ${c.rule.name} (${c.label}): output ${output} has no gradient rule`,
        );
  }

  private call(c: TapeCommand, call: BackwardCall): void {
    const wanted = Object.entries(call.gradients).filter(([input]) => this.wants(c.inputs[input]));
    if (wanted.length === 0) return;
    const rule = ops.get(call.op);
    if (!rule) throw new ThalwegError("BAD_PROGRAM", `op ${c.rule.name}: backward names the unknown op ${call.op}`);
    const inputs: Record<string, Tensor | undefined> = {};
    for (const [operand, source] of Object.entries(call.inputs)) inputs[operand] = this.source(c, source);
    const merged = call.addend === undefined ? undefined : c.inputs[call.addend];
    const others = merged && this.gradients.get(merged);
    if (others) inputs.addend = others;
    const into: Record<string, Tensor> = {};
    for (const [input, output] of wanted) {
      const t = c.inputs[input]!;
      const accumulates = rule.outputs[output]!.inout;
      if (t.parameter !== undefined)
        into[output] = accumulates ? this.tape.gradient(t) : refuseParameter(t, c, call.op);
      else if (accumulates) into[output] = this.tape.empty(`backward/${t.name}`, "f32", t.shape);
    }
    const attributes = this.attributes(c, call, rule, into);
    const outputs: Readonly<Record<string, Tensor>> = this.tape.op(rule, inputs, attributes, {
      into,
      label: `backward/${c.label}`,
    });
    for (const [input, output] of wanted) {
      const t = c.inputs[input]!;
      if (t.parameter !== undefined) continue;
      if (others && t === merged) this.gradients.set(t, outputs[output]!);
      else this.contribute(t, outputs[output]!, c.label);
    }
  }

  /** Those of the forward op, but for what the call says and what only a backward pass knows. */
  private attributes(
    c: TapeCommand,
    call: BackwardCall,
    rule: OpRule,
    into: Readonly<Record<string, Tensor>>,
  ): Record<string, number> {
    const attributes: Record<string, number> = {};
    for (const name of Object.keys(rule.attributes)) {
      let value = call.attributes?.[name] ?? c.attributes[name];
      if (name === "accumulate") value = this.accumulate(c, into);
      if (name === "anyOrder") value = this.sums === "any" ? 1 : 0;
      if (value !== undefined) attributes[name] = value;
    }
    return attributes;
  }

  /** A forward operand (or its recomputed twin), or "dy": the gradient that arrived at output y. */
  private source(c: TapeCommand, name: string): Tensor | undefined {
    const operand = c.inputs[name] ?? c.outputs[name];
    if (operand) return this.twins.get(operand) ?? operand;
    const output = name.startsWith("d") ? c.outputs[name.slice(1)] : undefined;
    return output && this.gradients.get(output);
  }

  /** The first writer of a parameter's gradient in a Program overwrites it in the first micro-batch; all others add. */
  private accumulate(c: TapeCommand, into: Readonly<Record<string, Tensor>>): number {
    const targets = Object.values(into);
    if (targets.every((t) => t.space === "scratch")) return Accumulate.overwrite;
    const first = new Set(targets.map((t) => this.tape.firstWrite(t)));
    if (first.size > 1 || targets.some((t) => t.space === "scratch"))
      throw new ThalwegError(
        "BAD_PROGRAM",
        `op ${c.rule.name} (${c.label}): some of its parameters already have gradients and some not, but one flag serves all`,
      );
    return first.has(true) ? Accumulate.addUnlessFirst : Accumulate.add;
  }

  private contribute(t: Tensor, gradient: Tensor, label: string): void {
    if (t.base)
      throw new ThalwegError(
        "NOT_DIFFERENTIABLE",
        `row view ${t.name} (${label}) has no gradient rule: use the whole tensor`,
      );
    const known = this.gradients.get(t);
    const sum = known
      ? this.tape.op(ops.get("add")!, { a: gradient, b: known }, {}, { label: `backward/${label}` }).y!
      : gradient;
    this.gradients.set(t, sum);
  }
}

/**
 * Appends the backward pass of everything recorded so far. `seeds` are pairs (tensor, its gradient). Gradients of
 * parameters are added into the persistent tensors `grad/<name>`; returned are those of all other tensors that depend on
 * a parameter or are listed in `wrt`. Contributions to one tensor are merged through the `addend` operand of the later
 * op where it has one, otherwise by `add`. Throws NOT_DIFFERENTIABLE naming the op.
 */
export function gradients(
  tape: Tape,
  seeds: readonly (readonly [Tensor, Tensor])[],
  options: { recompute?: Recompute; sums?: GradientSums; wrt?: readonly Tensor[] } = {},
): ReadonlyMap<Tensor, Tensor> {
  const commands = [...tape.commands];
  const backward = new Backward(tape, dependents(commands, options.wrt ?? []), options.sums ?? "ordered");
  for (const [t, gradient] of seeds) backward.gradients.set(t, gradient);
  tape.purpose("gradients", () => backward.run(commands, options.recompute ?? "none"));
  return backward.gradients;
}
