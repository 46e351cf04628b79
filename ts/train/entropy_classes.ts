import type { EntropyLoss } from "./records.ts";

/** Sums of token losses by the true uncertainty of the token. */
export class EntropyClasses {
  private readonly bounds: readonly number[];
  private readonly counts: number[];
  private readonly losses: number[];
  private readonly entropies: number[];

  /** @param bounds ascending, in nats: class i holds entropies above bounds[i - 1] and up to bounds[i] */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    [this.counts, this.losses, this.entropies] = [0, 0, 0].map(() => new Array<number>(bounds.length + 1).fill(0)) as [
      number[],
      number[],
      number[],
    ];
  }

  /** Token losses and true entropies, both in nats; a negative target counts for nothing. */
  add(losses: Float32Array, entropies: Float32Array, targets: Int32Array): void {
    for (const [i, target] of targets.entries()) {
      if (target < 0) continue;
      const entropy = entropies[i]!;
      let k = 0;
      while (k < this.bounds.length && entropy > this.bounds[k]!) k++;
      this.counts[k]!++;
      this.losses[k]! += losses[i]!;
      this.entropies[k]! += entropy;
    }
  }

  /** Classes that had tokens, by rising entropy. */
  result(): EntropyLoss[] {
    return this.counts.flatMap((tokens, k) => {
      const [loss, entropy] = [this.losses[k]! / tokens, this.entropies[k]! / tokens];
      const [above, upTo] = [this.bounds[k - 1] ?? null, this.bounds[k] ?? null];
      return tokens === 0 ? [] : [{ above, upTo, tokens, loss, entropy }];
    });
  }
}
