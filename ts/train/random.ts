/** High 32 bits of the product of two 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (middle & 0xffff) + aLow * bHigh;
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/** Philox4x32-10 (Salmon et al. 2011): four random words for a counter under a key; the engine's generator too. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [mulHigh(0xd2511f53, c0), Math.imul(0xd2511f53, c0)];
    const [high1, low1] = [mulHigh(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2)];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1 >>> 0, (high0 ^ c3 ^ k1) >>> 0, low0 >>> 0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/** Uniform numbers in (0, 1) from a seed: draw `i` is a pure function of (seed, stream, i). */
export function uniforms(seed: number, stream = 0): () => number {
  let index = 0;
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0] as const;
  return () => {
    const word = philox([index >>> 0, Math.floor(index / 2 ** 32), stream, 0], key)[0]!;
    index++;
    return word * 2 ** -32 + 2 ** -33;
  };
}
