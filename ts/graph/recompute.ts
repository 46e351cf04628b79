import { ThalwegError } from "../base/errors.ts";
import type { Tape, TapeCommand, Tensor } from "./tape.ts";

/** Forward tensors that the backward rule of a command reads. */
function saved(c: TapeCommand): Tensor[] {
  const names = new Set((c.rule.backward?.calls ?? []).flatMap((call) => Object.values(call.inputs)));
  return [...names].map((name) => c.inputs[name] ?? c.outputs[name]).filter((t) => t !== undefined);
}

/**
 * Records the forward commands of one block again, as far as its backward pass needs their results, and returns
 * forward tensor -> recomputed tensor. What enters the block, and what other commands read of it, is kept and not made
 * again: the product that ends a transformer block is never repeated.
 */
export function replay(tape: Tape, commands: readonly TapeCommand[], block: string): ReadonlyMap<Tensor, Tensor> {
  const inside = commands.filter((c) => c.block === block);
  const lost = new Set(inside.flatMap((c) => Object.values(c.outputs)).filter((t) => t?.space === "scratch"));
  for (const c of commands) if (c.block !== block) for (const t of Object.values(c.inputs)) lost.delete(t?.root);

  const needed = new Set(inside.flatMap(saved).filter((t) => lost.has(t)));
  const again: TapeCommand[] = [];
  for (const c of inside.toReversed()) {
    if (!Object.values(c.outputs).some((t) => t && needed.has(t))) continue;
    again.unshift(c);
    for (const t of Object.values(c.inputs)) if (t && lost.has(t)) needed.add(t);
  }

  const twins = new Map<Tensor, Tensor>();
  for (const c of again) {
    for (const [name, t] of Object.entries(c.outputs))
      if (t && t.producer !== c)
        throw new ThalwegError(
          "BAD_PROGRAM",
          `op ${c.rule.name} (${c.label}) writes into ${t.name} (${name}): a block with such an op cannot be recomputed`,
        );
    const inputs: Record<string, Tensor | undefined> = {};
    for (const [name, t] of Object.entries(c.inputs)) inputs[name] = t && (twins.get(t) ?? t);
    const label = `recompute/${c.label}`;
    const wanted = Object.keys(c.outputs).filter((name) => c.outputs[name]);
    const outputs: Readonly<Record<string, Tensor | undefined>> = tape.purpose("recomputed", () =>
      tape.op(c.rule, inputs, c.attributes, { label, wanted }),
    );
    for (const [name, t] of Object.entries(c.outputs)) if (t && outputs[name]) twins.set(t, outputs[name]);
  }
  return twins;
}
