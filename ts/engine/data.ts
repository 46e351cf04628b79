import type { DType } from "../base/dtype.ts";

/** Elements of a tensor: f32, i32, or bf16 as its 16 bits. */
export type TensorData = Float32Array | Int32Array | Uint16Array;

const arrays = { f32: Float32Array, i32: Int32Array, bf16: Uint16Array } as const;

/** An array for the elements of a tensor, zeroed. */
export function allocate(dtype: DType, elements: number): TensorData {
  return new arrays[dtype](elements);
}

/** Whether an array holds elements of that data type. */
export function holds(dtype: DType, data: unknown): data is TensorData {
  return data instanceof arrays[dtype];
}
