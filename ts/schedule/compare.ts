/** Anything with a value at each step. */
interface Valued {
  valueAt(step: number): number;
}

/** The first step at which two schedules differ, and their values there. */
export interface Difference {
  readonly step: number;
  readonly a: number;
  readonly b: number;
}

export type Comparison = { readonly equal: true } | ({ readonly equal: false } & Difference);

/**
 * Compares the values that the updates [0, steps) use, bit for bit: what a resumed run must find unchanged. Specs may
 * differ as long as nothing that already happened does.
 */
export function realisedEqual(a: Valued, b: Valued, steps: number): Comparison {
  for (let step = 0; step < steps; step++) {
    const [left, right] = [a.valueAt(step), b.valueAt(step)];
    if (!Object.is(left, right)) return { equal: false, step, a: left, b: right };
  }
  return { equal: true };
}
