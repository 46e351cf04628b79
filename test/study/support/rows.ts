import type { ResultRow } from "../../../ts/study/results.ts";

/** Result rows of one budget from losses: one for each schedule and seed. */
export function rowsOf(given: {
  schedules: Readonly<Record<string, readonly (number | null)[]>>;
  labels?: Readonly<Record<string, string>>;
  sameState?: boolean;
}): ResultRow[] {
  return Object.entries(given.schedules).flatMap(([schedule, losses]) =>
    losses.map(
      (loss, seed): ResultRow => ({
        schedule,
        labels: given.labels ?? {},
        replicate: { seed: String(seed) },
        control: false,
        budget: 0,
        nominal: 100,
        step: 100,
        tokens: 1000,
        peak: 0.01,
        lrSum: 1,
        cumulativeTokens: 1100,
        aloneTokens: 1000,
        uniqueTokens: 1000,
        epochs: 0.5,
        state: given.sameState ? `same-${seed}` : `${schedule}-${seed}-${JSON.stringify(given.labels)}`,
        loss,
        entropy: null,
        byEntropy: null,
        controlLoss: loss === null ? null : loss + 0.1,
      }),
    ),
  );
}
