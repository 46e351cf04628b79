import { type DType, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import { evaluate } from "./expression.ts";
import { isDimName, type OperandRule, type OpRule } from "./op.ts";

/** What shape inference needs to know of a tensor. */
export interface Typed {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export type Operands = Readonly<Record<string, Typed | undefined>>;
export type Dims = Record<string, number>;

/** Dimensions bound so far, which operand bound each, and the compute precision once an `act` operand was seen. */
class Binding {
  readonly dims: Dims;
  act: DType | undefined;
  private readonly origin = new Map<string, string>();
  private readonly rule: OpRule;
  private readonly label: string;

  constructor(rule: OpRule, label: string, attributes: Readonly<Record<string, number>>) {
    this.rule = rule;
    this.label = label;
    this.dims = { ...attributes };
  }

  fail(what: string): never {
    throw new ThalwegError("BAD_PROGRAM", `op ${this.rule.name}${this.label ? ` (${this.label})` : ""}: ${what}`);
  }

  attributes(values: Readonly<Record<string, number>>): void {
    for (const [name, type] of Object.entries(this.rule.attributes)) {
      const value = values[name];
      if (value === undefined) this.fail(`attribute ${name} is missing`);
      if (type === "int" && !Number.isInteger(value)) this.fail(`attribute ${name} is ${value}, expected an integer`);
    }
    for (const name of Object.keys(values)) if (!(name in this.rule.attributes)) this.fail(`has no attribute ${name}`);
  }

  operand(name: string, declared: OperandRule, tensor: Typed): void {
    this.dtype(name, declared, tensor);
    const shape = declared.shape;
    if ("numel" in shape) {
      this.match(name, tensor, -1, shape.numel, numel(tensor.shape));
      return;
    }
    if (tensor.shape.length !== shape.length)
      this.fail(
        `operand ${name} is [${tensor.shape}], rank ${tensor.shape.length}; expected [${shape.join(", ")}], rank ${shape.length}`,
      );
    shape.forEach((dim, axis) => {
      this.match(name, tensor, axis, dim, tensor.shape[axis]!);
    });
  }

  private dtype(name: string, declared: OperandRule, tensor: Typed): void {
    const { dtype } = tensor;
    if (declared.dtype === "any") return;
    if (declared.dtype !== "act") {
      if (dtype !== declared.dtype) this.fail(`operand ${name} is ${dtype}, expected ${declared.dtype}`);
      return;
    }
    if (dtype === "i32") this.fail(`operand ${name} is i32, expected f32 or bf16`);
    if (this.act !== undefined && this.act !== dtype)
      this.fail(`operand ${name} is ${dtype}, but an earlier operand is ${this.act}`);
    this.act = dtype;
  }

  private match(name: string, tensor: Typed, axis: number, dim: string, found: number): void {
    if (isDimName(dim) && this.dims[dim] === undefined) {
      this.dims[dim] = found;
      this.origin.set(dim, `${name} [${tensor.shape}]`);
      return;
    }
    const want = evaluate(dim, this.dims);
    if (found === want) return;
    const where = axis < 0 ? `has ${found} elements` : `has ${found} along axis ${axis}`;
    const from = this.origin.has(dim) ? ` as in ${this.origin.get(dim)}` : "";
    this.fail(
      `operand ${name} is [${tensor.shape}]: it ${where}, expected ${/^\d+$/.test(dim) ? "" : `${dim} = `}${want}${from}`,
    );
  }

  outputType(name: string, precision: DType): DType {
    const { dtype } = this.rule.outputs[name]!;
    if (dtype === "any") this.fail(`the type of output ${name} is open: give the tensor to write into`);
    return dtype === "act" ? (this.act ?? precision) : dtype;
  }

  /** Shape of an output that is not given: every dimension must follow from the inputs and attributes. */
  outputShape(name: string, inputs: Operands): readonly number[] {
    const { shape } = this.rule.outputs[name]!;
    if (!("numel" in shape)) return shape.map((dim) => evaluate(dim, this.dims));
    const twin = Object.entries(this.rule.inputs).find(
      ([input, o]) => "numel" in o.shape && o.shape.numel === shape.numel && inputs[input],
    );
    if (!twin) this.fail(`the shape of output ${name} does not follow from its inputs: give the tensor to write into`);
    return inputs[twin[0]]!.shape;
  }
}

/**
 * Checks one call against its declaration and infers what is not given. `outputs` holds the tensors to write into, where
 * they exist already; `wanted` the optional outputs to make. Returns all dimensions (attributes included) and the type
 * of every output. Throws BAD_PROGRAM naming op, label and operand, with what was found and expected.
 */
export function infer(
  rule: OpRule,
  label: string,
  operands: { inputs: Operands; outputs: Operands },
  attributes: Readonly<Record<string, number>>,
  options: { precision: DType; wanted?: readonly string[] },
): { dims: Dims; outputs: Record<string, Typed> } {
  const binding = new Binding(rule, label, attributes);
  binding.attributes(attributes);
  for (const name of Object.keys(operands.inputs)) if (!(name in rule.inputs)) binding.fail(`has no input ${name}`);
  for (const name of Object.keys(operands.outputs)) if (!(name in rule.outputs)) binding.fail(`has no output ${name}`);
  for (const [name, declared] of Object.entries(rule.inputs)) {
    const tensor = operands.inputs[name];
    if (tensor) binding.operand(name, declared, tensor);
    else if (!declared.optional) binding.fail(`operand ${name} is missing`);
  }
  const outputs: Record<string, Typed> = {};
  for (const [name, declared] of Object.entries(rule.outputs)) {
    const given = operands.outputs[name];
    if (given) {
      binding.operand(name, declared, given);
      outputs[name] = given;
    } else if (!declared.optional || options.wanted?.includes(name)) {
      outputs[name] = {
        dtype: binding.outputType(name, options.precision),
        shape: binding.outputShape(name, operands.inputs),
      };
    }
  }
  for (const condition of rule.requires ?? [])
    if (!evaluate(condition, binding.dims))
      binding.fail(`violates ${condition} (${valuesOf(condition, binding.dims)})`);
  return { dims: binding.dims, outputs };
}

const valuesOf = (condition: string, dims: Dims): string =>
  [...new Set(condition.match(/[a-zA-Z]\w*/g))].map((name) => `${name} = ${dims[name]}`).join(", ");
