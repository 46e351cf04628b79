import { type DType, dtypeBytes, numel } from "../base/dtype.ts";
import { ThalwegError } from "../base/errors.ts";
import type { PersistentTensor } from "../engine/program.ts";
import { align } from "./plan.ts";

/** Addresses of the persistent tensors of a Module, given out in order and never moved. */
export class Layout {
  private readonly byName = new Map<string, PersistentTensor>();
  private end = 0;

  get bytes(): number {
    return this.end;
  }

  /** In order of addition; flat tensors over a region follow the tensors they cover. */
  get tensors(): readonly PersistentTensor[] {
    return [...this.byName.values()];
  }

  add(name: string, dtype: DType, shape: readonly number[]): PersistentTensor {
    const tensor = this.place(name, dtype, shape, this.end);
    this.end = align(this.end + numel(shape) * dtypeBytes[dtype]);
    return tensor;
  }

  /**
   * Lays `<set>/<name>` for each entry side by side (fp32, each 64-byte aligned) and a flat tensor `<set>` over all of
   * them, padding included. The padding is zero and stays so. Equal entries give equal relative offsets in every set.
   */
  region(set: string, entries: readonly { name: string; shape: readonly number[] }[]): void {
    const start = this.end;
    for (const { name, shape } of entries) this.add(`${set}/${name}`, "f32", shape);
    this.place(set, "f32", [(this.end - start) / dtypeBytes.f32], start);
  }

  find(name: string): PersistentTensor | undefined {
    return this.byName.get(name);
  }

  /** Throws BAD_PROGRAM when no such tensor was laid out. */
  get(name: string): PersistentTensor {
    const tensor = this.byName.get(name);
    if (!tensor) throw new ThalwegError("BAD_PROGRAM", `persistent tensor ${name} is not in the Module's layout`);
    return tensor;
  }

  /** Bytes of one region, e.g. "grad". */
  bytesOf(name: string): number {
    const t = this.get(name);
    return numel(t.shape) * dtypeBytes[t.dtype];
  }

  private place(name: string, dtype: DType, shape: readonly number[], offset: number): PersistentTensor {
    if (this.byName.has(name)) throw new ThalwegError("BAD_PROGRAM", `persistent tensor ${name} is laid out twice`);
    const tensor = { name, dtype, shape, offset };
    this.byName.set(name, tensor);
    return tensor;
  }
}
