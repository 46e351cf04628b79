import { linear, linearDgrad } from "./ops/linear.ts";
import { linearDgradSwiglu, linearSwiglu } from "./ops/linear_swiglu.ts";
import { swiglu, swigluBackward } from "./ops/swiglu.ts";
import { infer } from "./shapes.ts";
import type { TapeCommand, Tensor } from "./tape.ts";

type Operands = Readonly<Record<string, Tensor | undefined>>;

/** Who reads and who writes the memory of a tensor, views of it included. */
class Uses {
  private readonly readers = new Map<Tensor, TapeCommand[]>();
  private readonly writers = new Map<Tensor, TapeCommand[]>();

  constructor(commands: readonly TapeCommand[]) {
    const note = (map: Map<Tensor, TapeCommand[]>, t: Tensor | undefined, c: TapeCommand) => {
      if (t) map.set(t.root, [...(map.get(t.root) ?? []), c]);
    };
    for (const c of commands) {
      for (const t of Object.values(c.inputs)) note(this.readers, t, c);
      for (const [name, t] of Object.entries(c.outputs)) {
        note(this.writers, t, c);
        if (c.rule.outputs[name]!.inout) note(this.readers, t, c);
      }
    }
  }

  readersOf = (t: Tensor): readonly TapeCommand[] => this.readers.get(t.root) ?? [];
  writersOf = (t: Tensor): readonly TapeCommand[] => this.writers.get(t.root) ?? [];
  /** Whether the tensor is scratch memory of its own that this command writes, whole, and no other. */
  isMadeBy = (t: Tensor, c: TapeCommand): boolean => t.producer === c && this.writersOf(t).length === 1;
}

/** A command in the place of two. */
interface Fusion {
  product: TapeCommand;
  elementwise: TapeCommand;
  /** Which of the two it takes the place of; the other one goes. */
  at: TapeCommand;
  fused: TapeCommand;
}

function command(rule: TapeCommand["rule"], from: TapeCommand, inputs: Operands, outputs: Operands, ffn?: number) {
  const attributes: Record<string, number> = ffn === undefined ? {} : { ffn };
  const precision = inputs[Object.keys(rule.inputs)[0]!]!.dtype;
  const { dims } = infer(rule, from.label, { inputs, outputs }, attributes, { precision });
  return { rule, label: from.label, inputs, outputs, attributes, dims, block: from.block };
}

/** linear, then swiglu: at the product's place, as gate and up may be read right after it. */
function forward(elementwise: TapeCommand, uses: Uses): Fusion | null {
  const [gateUp, y] = [elementwise.inputs.x!, elementwise.outputs.y!];
  const product = gateUp.producer;
  if (product?.rule !== linear || product.inputs.residual || !uses.isMadeBy(gateUp, product)) return null;
  if (!uses.isMadeBy(y, elementwise)) return null;
  const { x, weight } = product.inputs;
  const kept = uses.readersOf(gateUp).some((c) => c !== elementwise) ? gateUp : undefined;
  const fused = command(linearSwiglu, product, { x, weight }, { gateUp: kept, y }, elementwise.attributes.ffn);
  return { product, elementwise, at: product, fused };
}

/** linearDgrad, then swigluBackward, which alone reads its result: at the latter's place, where gate and up are there. */
function backward(elementwise: TapeCommand, uses: Uses, indexOf: ReadonlyMap<TapeCommand, number>): Fusion | null {
  const { x: gateUp, dy: dm } = elementwise.inputs;
  const dgateUp = elementwise.outputs.dx!;
  const product = dm!.producer;
  if (product?.rule !== linearDgrad || product.inputs.addend || !uses.isMadeBy(dm!, product)) return null;
  if (uses.readersOf(dm!).length !== 1 || !uses.isMadeBy(dgateUp, elementwise)) return null;
  const { dy, weight } = product.inputs;
  const between = (c: TapeCommand) =>
    indexOf.get(c)! > indexOf.get(product)! && indexOf.get(c)! < indexOf.get(elementwise)!;
  if ([dy!, weight!].some((t) => uses.writersOf(t).some(between))) return null;
  const fused = command(linearDgradSwiglu, product, { dy, weight, gateUp }, { dgateUp });
  return { product, elementwise, at: elementwise, fused };
}

/**
 * The commands with each product that SwiGLU or its gradient follows made one command with it: same bits, less memory
 * traffic. What lies between the two, [gate | up], is written only where somebody else reads it; the gradient of
 * SwiGLU's result disappears. Left alone: products with a residual or addend, results written in parts or into given
 * tensors, a gradient that is read elsewhere too.
 */
export function fuse(commands: readonly TapeCommand[]): TapeCommand[] {
  const uses = new Uses(commands);
  const indexOf = new Map(commands.map((c, index) => [c, index]));
  const replacement = new Map<TapeCommand, TapeCommand | null>();
  for (const c of commands) {
    const found = c.rule === swiglu ? forward(c, uses) : c.rule === swigluBackward ? backward(c, uses, indexOf) : null;
    if (!found || replacement.has(found.product)) continue;
    replacement.set(found.product, null).set(found.elementwise, null).set(found.at, found.fused);
  }
  return commands.flatMap((c) => {
    const other = replacement.get(c);
    return other === undefined ? [c] : other === null ? [] : [other];
  });
}
