import type { EntropyLoss } from "./records.ts";

/** Sums of token losses by the true uncertainty of the token. */
export class EntropyClasses {
  private readonly bounds: readonly number[];
  private readonly counts: Float64Array;
  private readonly losses: Float64Array;
  private readonly entropies: Float64Array;

  /** @param bounds ascending, in nats: class i holds entropies above bounds[i - 1] and up to bounds[i] */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
    this.losses = new Float64Array(bounds.length + 1);
    this.entropies = new Float64Array(bounds.length + 1);
  }

  /** Token losses and true entropies, both in nats; a negative target counts for nothing. */
  add(losses: Float32Array, entropies: Float32Array, targets: Int32Array): void {
    const { bounds, counts } = this;
    for (let i = 0; i < targets.length; i++) {
      if (targets[i]! < 0) continue;
      const entropy = entropies[i]!;
      let k = 0;
      while (k < bounds.length && entropy > bounds[k]!) k++;
      counts[k]!++;
      this.losses[k]! += losses[i]!;
      this.entropies[k]! += entropy;
    }
  }

  /** Classes that had tokens, by rising entropy. */
  result(): EntropyLoss[] {
    return [...this.counts].flatMap((tokens, k) => {
      const [loss, entropy] = [this.losses[k]! / tokens, this.entropies[k]! / tokens];
      const [above, upTo] = [this.bounds[k - 1] ?? null, this.bounds[k] ?? null];
      return tokens === 0 ? [] : [{ above, upTo, tokens, loss, entropy }];
    });
  }
}
