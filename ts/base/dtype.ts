/** Data types of engine tensors; bf16 is stored as its 16 bits (a Uint16Array in JavaScript). */
export type DType = "f32" | "bf16" | "i32";

export const dtypeBytes: Record<DType, number> = { f32: 4, bf16: 2, i32: 4 };

export function numel(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
