import { type DType, dtypeBytes, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import type { Space } from "../engine/program.ts";
import type { OpRule } from "./op.ts";
import { type Dims, infer } from "./shapes.ts";

/** Compute precision of activations. */
export type Precision = "f32" | "bf16";

/** What scratch memory is used for, as reported by the memory plan. */
export type Purpose = "activations" | "gradients" | "recomputed" | "logits";

/** A symbolic tensor: dense, row-major; what it holds is known only to the engine. */
export class Tensor {
  readonly tape: Tape;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly space: Space;
  readonly purpose: Purpose;
  /** The tensor whose memory this one is a part of, for row views. Never itself a view. */
  readonly base: Tensor | undefined;
  /** Bytes from the start of `base`. */
  readonly byteOffset: number;
  /** Name of the parameter, for parameters. */
  readonly parameter: string | undefined;
  /** The command that made it; undefined for persistent tensors, views and tensors written in parts. */
  producer: TapeCommand | undefined;

  constructor(tape: Tape, t: TensorFields) {
    this.tape = tape;
    this.name = t.name;
    this.dtype = t.dtype;
    this.shape = t.shape;
    this.space = t.space;
    this.purpose = t.purpose;
    this.base = t.base;
    this.byteOffset = t.byteOffset ?? 0;
    this.parameter = t.parameter;
  }

  get bytes(): number {
    return numel(this.shape) * dtypeBytes[this.dtype];
  }

  /** The tensor that owns the memory: itself unless it is a view. */
  get root(): Tensor {
    return this.base ?? this;
  }

  /** View of rows [start, start + count) along the first axis: same memory, which lives as long as any view of it. */
  rows(start: number, count: number): Tensor {
    const total = this.shape[0] ?? 0;
    if (start < 0 || count < 1 || start + count > total)
      throw new ThalwegError("BAD_PROGRAM", `rows [${start}, ${start + count}) of ${this.name}: it has ${total} rows`);
    if (count === total) return this;
    const rowBytes = this.bytes / total;
    const root = this.root;
    return this.tape.view(root, {
      name: `${this.name}[${start}:${start + count}]`,
      shape: [count, ...this.shape.slice(1)],
      byteOffset: this.byteOffset + start * rowBytes,
    });
  }
}

interface TensorFields {
  name: string;
  dtype: DType;
  shape: readonly number[];
  space: Space;
  purpose: Purpose;
  base?: Tensor;
  byteOffset?: number;
  parameter?: string;
}

/** One recorded call. Operand order is that of the declaration; absent optional operands are undefined. */
export interface TapeCommand {
  readonly rule: OpRule;
  readonly label: string;
  readonly inputs: Readonly<Record<string, Tensor | undefined>>;
  readonly outputs: Readonly<Record<string, Tensor | undefined>>;
  readonly attributes: Readonly<Record<string, number>>;
  /** Dimensions bound by the operands, attributes included: what `flops` takes. */
  readonly dims: Dims;
  /** The recomputation block it was recorded in. */
  readonly block: string | undefined;
}

export interface OpOptions {
  /** Existing tensors to write outputs into: accumulators, persistent outputs, row views. */
  into?: Readonly<Record<string, Tensor | undefined>>;
  /** Optional outputs to make. */
  wanted?: readonly string[];
  label?: string;
}

type Inputs<R extends OpRule> = { readonly [K in keyof R["inputs"]]?: Tensor | undefined };
type Outputs<R extends OpRule> = { readonly [K in keyof R["outputs"]]: Tensor };
type Attributes<R extends OpRule> = { readonly [K in keyof R["attributes"]]: number };

/** What all scopes of one tape share. */
interface Recording {
  readonly precision: Precision;
  readonly parameterSet: string;
  readonly commands: TapeCommand[];
  readonly names: Map<string, number>;
  readonly persistent: Map<string, Tensor>;
  readonly views: Map<string, Tensor>;
  readonly written: Set<string>;
  block: string | undefined;
  purpose: Purpose;
}

export interface TapeOptions {
  precision?: Precision;
  /** Which set of parameters `param` names: "param" (the live ones), "ema", ... */
  parameterSet?: string;
}

/** Records ops on symbolic tensors, in the order in which the engine will play them. */
export class Tape {
  private readonly recording: Recording;
  private readonly prefix: string;

  constructor(options: TapeOptions | Recording = {}, prefix = "") {
    this.prefix = prefix;
    this.recording =
      "commands" in options
        ? options
        : {
            precision: options.precision ?? "f32",
            parameterSet: options.parameterSet ?? "param",
            commands: [],
            names: new Map(),
            persistent: new Map(),
            views: new Map(),
            written: new Set(),
            block: undefined,
            purpose: "activations",
          };
  }

  get precision(): Precision {
    return this.recording.precision;
  }
  get commands(): readonly TapeCommand[] {
    return this.recording.commands;
  }
  get parameterSet(): string {
    return this.recording.parameterSet;
  }

  /** The same tape with parameter names under `name`, e.g. "self_attn". */
  scope(name: string): Tape {
    return new Tape(this.recording, this.qualified(name));
  }

  /** Records `body` in a scope as one block: the unit that may be recomputed in the backward pass. */
  block<T>(name: string, body: (t: Tape) => T): T {
    const outer = this.recording.block;
    this.recording.block = this.qualified(name);
    try {
      return body(this.scope(name));
    } finally {
      this.recording.block = outer;
    }
  }

  /** Records `body` with another purpose for the memory report. */
  purpose<T>(purpose: Purpose, body: () => T): T {
    const outer = this.recording.purpose;
    this.recording.purpose = purpose;
    try {
      return body();
    } finally {
      this.recording.purpose = outer;
    }
  }

  private qualified(name: string): string {
    return this.prefix ? `${this.prefix}.${name}` : name;
  }

  /** A parameter of the set this tape reads: fp32 master, persistent. */
  param(name: string, shape: readonly number[]): Tensor {
    const parameter = this.qualified(name);
    return this.persistent(`${this.parameterSet}/${parameter}`, "f32", shape, parameter);
  }

  /** The persistent fp32 gradient of a parameter. */
  gradient(parameter: Tensor): Tensor {
    return this.persistent(`grad/${parameter.parameter}`, "f32", parameter.shape);
  }

  /** True the first time an accumulator is asked for in this Program: its first writer may overwrite. */
  firstWrite(accumulator: Tensor): boolean {
    const { written } = this.recording;
    if (written.has(accumulator.root.name)) return false;
    written.add(accumulator.root.name);
    return true;
  }

  /** A tensor of the Module: input, output, constant, state. Asking again for the same name gives the same tensor. */
  persistent(name: string, dtype: DType, shape: readonly number[], parameter?: string): Tensor {
    const known = this.recording.persistent.get(name);
    if (known) {
      if (known.dtype !== dtype || String(known.shape) !== String(shape))
        throw new ThalwegError(
          "BAD_PROGRAM",
          `${name} is ${known.dtype} [${known.shape}] in this tape, now asked for as ${dtype} [${shape}]`,
        );
      return known;
    }
    const tensor = new Tensor(this, {
      name,
      dtype,
      shape,
      space: "persistent",
      purpose: "activations",
      ...(parameter === undefined ? {} : { parameter }),
    });
    this.recording.persistent.set(name, tensor);
    return tensor;
  }

  /** Scratch memory that later commands fill in parts, through row views. */
  empty(name: string, dtype: DType, shape: readonly number[]): Tensor {
    return this.scratch(this.qualified(name), dtype, shape);
  }

  /** Called by Tensor.rows. */
  view(base: Tensor, v: { name: string; shape: readonly number[]; byteOffset: number }): Tensor {
    const known = this.recording.views.get(v.name);
    if (known && String(known.shape) === String(v.shape)) return known;
    const { dtype, space, purpose } = base;
    const tensor = new Tensor(this, { ...v, dtype, space, purpose, base });
    this.recording.views.set(v.name, tensor);
    return tensor;
  }

  private scratch(name: string, dtype: DType, shape: readonly number[]): Tensor {
    const uses = this.recording.names.get(name) ?? 0;
    this.recording.names.set(name, uses + 1);
    const unique = uses === 0 ? name : `${name}#${uses + 1}`;
    return new Tensor(this, { name: unique, dtype, shape, space: "scratch", purpose: this.recording.purpose });
  }

  /**
   * Records one call and returns its outputs, shapes inferred from the declaration. Throws BAD_PROGRAM naming the op, its
   * label and the operand that does not fit.
   */
  op<R extends OpRule>(rule: R, inputs: Inputs<R>, attributes: Attributes<R>, options: OpOptions = {}): Outputs<R> {
    const given = inputs as Readonly<Record<string, Tensor | undefined>>;
    const values = attributes as Readonly<Record<string, number>>;
    const into = options.into ?? {};
    const label = options.label ?? labelOf(rule, given, into);
    const inferred = infer(rule, label, { inputs: given, outputs: into }, values, {
      precision: this.precision,
      ...(options.wanted ? { wanted: options.wanted } : {}),
    });
    const outputs: Record<string, Tensor | undefined> = {};
    for (const name of Object.keys(rule.outputs)) {
      const type = inferred.outputs[name];
      outputs[name] = into[name] ?? (type && this.scratch(`${label}/${name}`, type.dtype, type.shape));
    }
    const command: TapeCommand = {
      rule,
      label,
      inputs: given,
      outputs,
      attributes: values,
      dims: inferred.dims,
      block: this.recording.block,
    };
    for (const [name, tensor] of Object.entries(outputs)) if (tensor && !into[name]) tensor.producer = command;
    this.recording.commands.push(command);
    return outputs as Outputs<R>;
  }
}

/** "model.layers.3.mlp.down_proj" from a parameter's name; otherwise the op's name beside what made its first input. */
function labelOf(
  rule: OpRule,
  inputs: Readonly<Record<string, Tensor | undefined>>,
  into: Readonly<Record<string, Tensor | undefined>>,
): string {
  const tensors = Object.values(inputs).filter((t) => t !== undefined);
  for (const t of tensors) if (t.parameter !== undefined) return t.parameter.replace(/\.weight$/, "");
  for (const t of tensors) {
    const made = t.root.producer?.label;
    if (made !== undefined) return made.includes(".") ? made.replace(/[^.]*$/, rule.name) : rule.name;
  }
  const target = Object.values(into).find((t) => t !== undefined);
  return target ? `${rule.name}(${target.name})` : rule.name;
}
