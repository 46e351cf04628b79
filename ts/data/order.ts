import { createHash } from "node:crypto";

const rounds = 8;

/**
 * A keyed permutation of [0, n): a Feistel network over the smallest power of two >= n, with cycle walking (Black &
 * Rogaway 2002) back into range. Any position is found in O(1) without a table, so a run resumes at once, and unlike a
 * linear-congruential order neighbouring positions have nothing in common.
 */
export class Permutation {
  readonly size: number;
  private readonly keys: Uint32Array;
  private readonly leftMask: number;
  private readonly rightMask: number;
  private readonly rightSpan: number;

  /**
   * The same (size, seed, epoch) gives the same permutation on every machine.
   * @param size 1 .. 2^52
   */
  constructor(size: number, seed: number | bigint | string, epoch: number) {
    if (!Number.isSafeInteger(size) || size < 1 || size > 2 ** 52)
      throw new RangeError(`size ${size} is not in 1..2^52`);
    this.size = size;
    // A network of one bit has no right half to key the left one with, so two bits are the least.
    let bits = 2;
    while (2 ** bits < size) bits++;
    const leftBits = bits >> 1;
    const rightBits = bits - leftBits;
    this.leftMask = 2 ** leftBits - 1;
    this.rightMask = 2 ** rightBits - 1;
    this.rightSpan = 2 ** rightBits;
    const digest = createHash("sha256").update(`thalweg order 1 seed ${seed} epoch ${epoch}`).digest();
    this.keys = Uint32Array.from({ length: rounds }, (_, i) => digest.readUInt32LE(4 * i));
  }

  /** The block at place `index` of the order; both in [0, size). */
  permute(index: number): number {
    this.check(index);
    let value = index;
    do value = this.forward(value);
    while (value >= this.size);
    return value;
  }

  /** The place of block `value` in the order: inverse(permute(i)) = i. */
  inverse(value: number): number {
    this.check(value);
    let index = value;
    do index = this.backward(index);
    while (index >= this.size);
    return index;
  }

  private check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.size)
      throw new RangeError(`index ${index} is not in 0..${this.size - 1}`);
  }

  private forward(value: number): number {
    let left = Math.floor(value / this.rightSpan);
    let right = value % this.rightSpan;
    for (let r = 0; r < rounds; r += 2) {
      left = (left ^ mix(right, this.keys[r]!)) & this.leftMask;
      right = (right ^ mix(left, this.keys[r + 1]!)) & this.rightMask;
    }
    return left * this.rightSpan + right;
  }

  private backward(value: number): number {
    let left = Math.floor(value / this.rightSpan);
    let right = value % this.rightSpan;
    for (let r = rounds - 2; r >= 0; r -= 2) {
      right = (right ^ mix(left, this.keys[r + 1]!)) & this.rightMask;
      left = (left ^ mix(right, this.keys[r]!)) & this.leftMask;
    }
    return left * this.rightSpan + right;
  }
}

/** 32-bit finalizer (murmur3 constants) of a half and its round key. */
function mix(half: number, key: number): number {
  let h = (half ^ key) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  h = (h ^ (h >>> 16)) + key;
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return h ^ (h >>> 16);
}
