import { ThalwegError } from "../base/errors.ts";

/** `act` is the compute precision: f32 or bf16, one choice per command. `any`: whatever the operand is. */
export type DTypeRule = "act" | "f32" | "i32" | "any";

/**
 * Shape of an operand: named dimensions bind at first use and must agree afterwards; anything else is an integer
 * expression (+ * and parentheses) over attributes and dimensions already bound. `{ numel: "n" }` accepts any rank.
 */
export type ShapeRule = readonly string[] | { readonly numel: string };

export interface OperandRule {
  readonly dtype: DTypeRule;
  readonly shape: ShapeRule;
  readonly optional?: boolean;
  /** For outputs: the old contents are read (an accumulator, a parameter being updated). */
  readonly inout?: boolean;
}

export type AttributeType = "f32" | "int";

/** One call recorded for the gradient of an op, written in the operand names of that (forward) op. */
export interface BackwardCall {
  /** Name of the op to call. */
  readonly op: string;
  /** Its inputs: a forward operand, or "d" + a forward output: the gradient that arrived there ("dy" for output y). */
  readonly inputs: Readonly<Record<string, string>>;
  /** Forward input -> the output of the call that is its gradient. The call is dropped when none of them is wanted. */
  readonly gradients: Readonly<Record<string, string>>;
  /** Forward input whose gradient from elsewhere the call's optional operand `addend` takes in, sparing an `add`. */
  readonly addend?: string;
  /** Attributes that differ from the forward op's of the same name (`accumulate` and `anyOrder` are set by autograd). */
  readonly attributes?: Readonly<Record<string, number>>;
}

export interface BackwardRule {
  readonly calls?: readonly BackwardCall[];
  /** Forward input -> forward output whose gradient it receives unchanged: an alias, no copy. */
  readonly same?: Readonly<Record<string, string>>;
}

export interface OpRule {
  readonly name: string;
  /** Formula with shapes, units and the source. Copied into the generated header. */
  readonly doc: string;
  readonly inputs: Readonly<Record<string, OperandRule>>;
  readonly outputs: Readonly<Record<string, OperandRule>>;
  readonly attributes: Readonly<Record<string, AttributeType>>;
  /** Output -> input whose memory it may take when that input is not read afterwards. */
  readonly inplace?: Readonly<Record<string, string>>;
  /** Conditions over attributes and dims that must hold, e.g. "rows % seq == 0". */
  readonly requires?: readonly string[];
  /** How its gradient is made of other ops; an op without one is refused by `gradients`, by name. */
  readonly backward?: BackwardRule;
  /** Floating-point operations of one call, from dims and attributes (a multiply-add counts two). */
  readonly flops: (d: Readonly<Record<string, number>>) => number;
}

const identifier = /^[a-zA-Z][a-zA-Z0-9]*$/;

export const act = (...shape: string[]): OperandRule => ({ dtype: "act", shape });
export const f32 = (...shape: string[]): OperandRule => ({ dtype: "f32", shape });
export const i32 = (...shape: string[]): OperandRule => ({ dtype: "i32", shape });
export const flat = (dtype: DTypeRule, numel: string): OperandRule => ({ dtype, shape: { numel } });
export const optional = (o: OperandRule): OperandRule => ({ ...o, optional: true });
export const inout = (o: OperandRule): OperandRule => ({ ...o, inout: true });

export const isDimName = (s: string): boolean => identifier.test(s);

/** Declares an op and checks the declaration itself. */
export function defineOp<const R extends OpRule>(rule: R): R {
  for (const [out, input] of Object.entries(rule.inplace ?? {})) {
    if (!(out in rule.outputs) || !(input in rule.inputs))
      throw new ThalwegError("BAD_PROGRAM", `op ${rule.name}: inplace ${out} <- ${input} names no operand`);
  }
  return rule;
}

export function operandNames(rule: OpRule): string[] {
  return [...Object.keys(rule.inputs), ...Object.keys(rule.outputs)];
}

export function operandRule(rule: OpRule, name: string): OperandRule {
  return (rule.inputs[name] ?? rule.outputs[name])!;
}

/** camelCase -> snake_case, for the generated C++. */
export const snake = (s: string): string => s.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
