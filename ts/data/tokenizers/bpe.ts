/**
 * Byte-pair merging by ranks. A token is a string of bytes, id = rank: of all neighbouring pairs whose concatenation is a
 * token, the one of lowest rank (leftmost first) is merged until none is left.
 */
export class RankedMerges {
  /** Token bytes (one character U+0000..U+00FF each) in id order. */
  readonly tokens: readonly string[];
  private readonly ids: Map<string, number>;
  private readonly singles: Int32Array;
  private pairs: PairTable | null = null;

  constructor(tokens: readonly string[]) {
    this.tokens = tokens;
    this.ids = new Map(tokens.map((token, id) => [token, id]));
    this.singles = Int32Array.from({ length: 256 }, (_, byte) => this.ids.get(String.fromCharCode(byte)) ?? -1);
  }

  /** The first byte value without a token of its own, or -1. */
  missingByte(): number {
    return this.singles.indexOf(-1);
  }

  /** Ids of one word given as bytes, one character each. */
  encodeWord(bytes: string): number[] {
    const whole = this.ids.get(bytes);
    if (whole !== undefined) return [whole];
    const ids = Array.from(bytes, (byte) => this.singles[byte.charCodeAt(0)]!);
    this.pairs ??= this.buildPairs();
    return ids.length <= 48 ? mergeByScan(ids, this.pairs) : mergeByHeap(ids, this.pairs);
  }

  /** The pair whose merge made each token of more than one byte, in order of priority (one per token, as in vocab.bpe). */
  recoverMerges(): [string, string][] {
    this.pairs ??= this.buildPairs();
    const merges: [string, string][] = [];
    for (const [rank, token] of this.tokens.entries()) {
      if (token.length < 2) continue;
      const parts = mergeByScan(
        Array.from(token, (byte) => this.singles[byte.charCodeAt(0)]!),
        this.pairs,
        rank,
      );
      if (parts.length === 2) merges.push([this.tokens[parts[0]!]!, this.tokens[parts[1]!]!]);
    }
    return merges;
  }

  private buildPairs(): PairTable {
    const table = new PairTable(this.tokens.length * 4);
    for (const [id, token] of this.tokens.entries()) {
      for (let cut = 1; cut < token.length; cut++) {
        const left = this.ids.get(token.slice(0, cut));
        const right = left === undefined ? undefined : this.ids.get(token.slice(cut));
        if (left !== undefined && right !== undefined) table.set(left, right, id);
      }
    }
    return table;
  }
}

/** (left id, right id) -> merged id; open addressing, several times faster than a Map keyed by a number beyond 2^31. */
class PairTable {
  private keys: Int32Array;
  private values: Int32Array;
  private mask: number;
  private used = 0;

  constructor(expected: number) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(16, 2 * expected)));
    this.keys = new Int32Array(2 * capacity);
    this.values = new Int32Array(capacity).fill(-1);
    this.mask = capacity - 1;
  }

  /** The merged id, or -1. */
  get(left: number, right: number): number {
    let slot = this.slot(left, right);
    while (this.values[slot]! >= 0) {
      if (this.keys[2 * slot] === left && this.keys[2 * slot + 1] === right) return this.values[slot]!;
      slot = (slot + 1) & this.mask;
    }
    return -1;
  }

  set(left: number, right: number, value: number): void {
    if (2 * ++this.used > this.mask) this.grow();
    let slot = this.slot(left, right);
    while (this.values[slot]! >= 0) slot = (slot + 1) & this.mask;
    this.keys[2 * slot] = left;
    this.keys[2 * slot + 1] = right;
    this.values[slot] = value;
  }

  private slot(left: number, right: number): number {
    const h = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77);
    return (h ^ (h >>> 15)) & this.mask;
  }

  private grow(): void {
    const { keys, values } = this;
    this.keys = new Int32Array(2 * keys.length);
    this.values = new Int32Array(2 * values.length).fill(-1);
    this.mask = this.values.length - 1;
    this.used = 1;
    for (let i = 0; i < values.length; i++) if (values[i]! >= 0) this.set(keys[2 * i]!, keys[2 * i + 1]!, values[i]!);
  }
}

/** Quadratic, but the fastest for words. Merges only ranks below `limit`. */
function mergeByScan(ids: number[], pairs: PairTable, limit = Number.POSITIVE_INFINITY): number[] {
  const merged = ids.slice(0, -1).map((left, i) => pairs.get(left, ids[i + 1]!));
  for (;;) {
    let best = -1;
    let rank = limit;
    for (let i = 0; i < merged.length; i++) {
      const candidate = merged[i]!;
      if (candidate >= 0 && candidate < rank) {
        rank = candidate;
        best = i;
      }
    }
    if (best < 0) return ids;
    ids[best] = rank;
    ids.splice(best + 1, 1);
    merged.splice(best, 1);
    if (best > 0) merged[best - 1] = pairs.get(ids[best - 1]!, rank);
    if (best < merged.length) merged[best] = pairs.get(rank, ids[best + 1]!);
  }
}

/** O(n log n) for a run of letters without a break (base64, Chinese, a line of dashes), where the scan would crawl. */
function mergeByHeap(ids: number[], pairs: PairTable): number[] {
  const n = ids.length;
  const next = Int32Array.from({ length: n }, (_, i) => i + 1);
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
  const heap = new MinHeap();
  const offer = (left: number) => {
    const right = left < 0 ? n : next[left]!;
    if (right >= n) return;
    const merged = pairs.get(ids[left]!, ids[right]!);
    if (merged >= 0) heap.push(merged * 2 ** 30 + left);
  };
  for (let i = 0; i + 1 < n; i++) offer(i);
  for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
    const merged = Math.floor(entry / 2 ** 30);
    const left = entry % 2 ** 30;
    const right = ids[left]! < 0 ? n : next[left]!;
    // An entry is stale once either side has been merged with something else.
    if (right >= n || pairs.get(ids[left]!, ids[right]!) !== merged) continue;
    ids[left] = merged;
    ids[right] = -1;
    next[left] = next[right]!;
    if (next[left]! < n) previous[next[left]!] = left;
    offer(left);
    offer(previous[left]!);
  }
  return ids.filter((id) => id >= 0);
}

class MinHeap {
  private readonly items: number[] = [];

  push(item: number): void {
    const { items } = this;
    let i = items.length;
    items.push(item);
    while (i > 0 && items[(i - 1) >> 1]! > item) {
      items[i] = items[(i - 1) >> 1]!;
      i = (i - 1) >> 1;
    }
    items[i] = item;
  }

  pop(): number | undefined {
    const { items } = this;
    const top = items[0];
    const last = items.pop();
    if (items.length === 0 || last === undefined) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[i] = items[child]!;
      i = child;
    }
    items[i] = last;
    return top;
  }
}
