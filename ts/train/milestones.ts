import type { RunConfig } from "../config/schema.ts";
import type { Schedule } from "../schedule/schedule.ts";
import type { Occasion } from "./records.ts";

/** What happens after a step has finished, before the next one is issued. */
export interface Milestone {
  step: number;
  occasion: Occasion;
  /** Index of the budget whose decay starts or ends here; null otherwise. */
  budget: number | null;
  evaluate: boolean;
  save: boolean;
}

export interface MilestonePlan {
  /** What is due after `step` finished updates; null when nothing is. */
  at(step: number): Milestone | null;
  /** Every milestone in (from, to], in order. */
  between(from: number, to: number): Milestone[];
}

type Wanted = Pick<RunConfig, "evaluation" | "checkpoints">;

/**
 * When a run evaluates and saves: before each decay (step = its first update), after it, at regular steps and at the
 * end. One step has one occasion; the rarer one names it: post-decay, pre-decay, final, periodic.
 */
export function planMilestones(config: Wanted, schedule: Schedule, end: number | null): MilestonePlan {
  const starts = new Map(schedule.budgets.map((b) => [b.decayStart, b.index]));
  const ends = new Map(schedule.budgets.map((b) => [b.end, b.index]));
  const { evaluation, checkpoints } = config;
  const multiple = (step: number, every: number): boolean => every > 0 && step % every === 0;

  const at = (step: number): Milestone | null => {
    if (step <= 0 || (end !== null && step > end)) return null;
    const last = step === end;
    const decay = ends.get(step) ?? starts.get(step) ?? null;
    const occasion: Occasion = ends.has(step)
      ? "post-decay"
      : decay !== null
        ? "pre-decay"
        : last
          ? "final"
          : "periodic";
    const atDecay = decay !== null;
    const evaluate =
      multiple(step, evaluation.every) ||
      (atDecay && evaluation.atDecays) ||
      (last && (evaluation.every > 0 || evaluation.atDecays));
    const regular = multiple(step, checkpoints.every) || (atDecay && checkpoints.atDecays);
    const save = last || (regular && !checkpoints.finalOnly);
    return evaluate || save ? { step, occasion, budget: decay, evaluate, save } : null;
  };

  const between = (from: number, to: number): Milestone[] => {
    const steps = new Set<number>([...starts.keys(), ...ends.keys(), ...(end === null ? [] : [end])]);
    for (const every of [evaluation.every, checkpoints.every])
      if (every > 0) for (let s = (Math.floor(from / every) + 1) * every; s <= to; s += every) steps.add(s);
    const inside = [...steps].filter((s) => s > from && s <= to).sort((a, b) => a - b);
    return inside.map(at).filter((m) => m !== null);
  };
  return { at, between };
}
