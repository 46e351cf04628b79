import type { DType } from "../base/dtype.ts";
import type { ModuleSpec, Program, ProgramTensor } from "./program.ts";

/** First word of an encoded layout and of an encoded Program; the format's version is the last character. */
const layoutMagic = 0x314c5754; // "TWL1"
const programMagic = 0x31505754; // "TWP1"
const dtypeCode: Record<DType, number> = { f32: 0, bf16: 1, i32: 2 };

/** Collects little-endian values; strings are a u32 length and UTF-8. Read by native/engine/program.cpp. */
class Writer {
  #buffer = new ArrayBuffer(1 << 12);
  #view = new DataView(this.#buffer);
  #size = 0;

  #room(bytes: number): number {
    const at = this.#size;
    if (at + bytes > this.#buffer.byteLength) {
      const grown = new ArrayBuffer(Math.max(2 * this.#buffer.byteLength, at + bytes));
      new Uint8Array(grown).set(new Uint8Array(this.#buffer));
      this.#buffer = grown;
      this.#view = new DataView(grown);
    }
    this.#size = at + bytes;
    return at;
  }
  u8(v: number): void {
    const at = this.#room(1); // first: it may replace the view
    this.#view.setUint8(at, v);
  }
  u32(v: number): void {
    const at = this.#room(4); // first: it may replace the view
    this.#view.setUint32(at, v, true);
  }
  i32(v: number): void {
    const at = this.#room(4); // first: it may replace the view
    this.#view.setInt32(at, v, true);
  }
  u64(v: number): void {
    const at = this.#room(8); // first: it may replace the view
    this.#view.setBigUint64(at, BigInt(v), true);
  }
  f64(v: number): void {
    const at = this.#room(8); // first: it may replace the view
    this.#view.setFloat64(at, v, true);
  }
  text(s: string): void {
    const bytes = new TextEncoder().encode(s);
    this.u32(bytes.length);
    const at = this.#room(bytes.length);
    new Uint8Array(this.#buffer).set(bytes, at);
  }
  done(): ArrayBuffer {
    return this.#buffer.slice(0, this.#size);
  }
}

function writeTensor(w: Writer, t: Omit<ProgramTensor, "space">, space: ProgramTensor["space"]): void {
  w.text(t.name);
  w.u8(dtypeCode[t.dtype]);
  w.u8(space === "persistent" ? 0 : 1);
  w.u8(t.shape.length);
  for (const size of t.shape) w.u64(size);
  w.u64(t.offset);
}

/** The persistent tensors of a Module. */
export function encodeLayout(spec: Pick<ModuleSpec, "persistentBytes" | "persistent">): ArrayBuffer {
  const w = new Writer();
  w.u32(layoutMagic);
  w.u64(spec.persistentBytes);
  w.u32(spec.persistent.length);
  for (const t of spec.persistent) writeTensor(w, t, "persistent");
  return w.done();
}

/** A Program as the engine takes it: one little-endian buffer, ops by name. */
export function encodeProgram(program: Program): ArrayBuffer {
  const w = new Writer();
  w.u32(programMagic);
  w.text(program.name);
  w.u64(program.scratchBytes);
  w.u32(program.tensors.length);
  for (const t of program.tensors) writeTensor(w, t, t.space);
  w.u32(program.commands.length);
  for (const c of program.commands) {
    w.text(c.op);
    w.text(c.label);
    w.u32(c.operands.length);
    for (const index of c.operands) w.i32(index);
    w.u32(c.attributes.length);
    for (const value of c.attributes) w.f64(value);
  }
  return w.done();
}
