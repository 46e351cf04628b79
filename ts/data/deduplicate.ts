import { hash } from "node:crypto";

/** Documents of one generation; memory holds two generations and what is pinned. */
const generationSize = 2 ** 22;

/**
 * Remembers documents by the first 64 bits of their SHA-256, in bounded memory: at least the last 4 million of them
 * (16 bytes each), and without end those that were pinned. Two different texts are taken for equal with a probability of
 * about 10^-12 for each document.
 */
export class Deduplicator {
  private readonly pinned = new KeySet();
  private young = new KeySet();
  private old = new KeySet();
  private readonly size: number;

  /** @param size documents of a generation; other than the default only in tests */
  constructor(size = generationSize) {
    this.size = size;
  }

  /** True when a document is new; it is remembered then (for good, with `pin`). */
  isNew(key: bigint, pin = false): boolean {
    if (this.pinned.has(key) || this.young.has(key) || this.old.has(key)) return false;
    if (pin) this.pinned.add(key);
    else {
      if (this.young.count >= this.size) {
        this.old = this.young;
        this.young = new KeySet();
      }
      this.young.add(key);
    }
    return true;
  }

  /**
   * Brings back the memory of an interrupted run from the keys of its new documents, `total` of them, the first `pinned`
   * ones pinned: only what is still remembered is read.
   */
  async replay(
    keys: (from: number, to: number) => Promise<BigUint64Array>,
    total: number,
    pinned: number,
  ): Promise<void> {
    for (const key of await keys(0, pinned)) this.isNew(key, true);
    const generations = Math.ceil((total - pinned) / this.size);
    for (const key of await keys(pinned + Math.max(0, generations - 2) * this.size, total)) this.isNew(key);
  }
}

/** The first 64 bits of a text's SHA-256. */
export function documentKey(utf8: Uint8Array): bigint {
  return hash("sha256", utf8, "buffer").readBigUInt64LE(0);
}

/** A set of 64-bit keys by open addressing; 0 marks an empty slot, so the key 0 is kept apart. */
class KeySet {
  count = 0;
  private keys = new BigUint64Array(1024);
  private zero = false;

  has(key: bigint): boolean {
    return key === 0n ? this.zero : this.keys[this.slot(key)] === key;
  }

  add(key: bigint): void {
    this.count++;
    if (key === 0n) {
      this.zero = true;
      return;
    }
    if (2 * this.count > this.keys.length) this.grow();
    this.keys[this.slot(key)] = key;
  }

  /** Where a key is, or would be put. */
  private slot(key: bigint): number {
    const mask = this.keys.length - 1;
    let slot = Number(key & 0xffffffffn) & mask;
    while (this.keys[slot] !== 0n && this.keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  private grow(): void {
    const before = this.keys;
    this.keys = new BigUint64Array(2 * before.length);
    for (const key of before) if (key !== 0n) this.keys[this.slot(key)] = key;
  }
}
