import type { RunConfig } from "../config/schema.ts";
import type { Schedule } from "../schedule/schedule.ts";
import { formatCount } from "./format.ts";
import type { WarningRecord } from "./records.ts";

export interface PlanQuestion {
  config: Pick<RunConfig, "data" | "batch" | "optimizer" | "evaluation">;
  schedule: Schedule;
  /** Last step; null for an open run. */
  end: number | null;
  /** Tokens read until then. Default: steps of one size. */
  tokens?: number | null;
  /** Training sequences of batch.length in one epoch; null when the data is not known. */
  epochSequences: number | null;
  /** Validation sequences there are; null when not known. */
  validationSequences: number | null;
  /** Whether its device always gives the same bits. Default true. */
  repeatable?: boolean;
}

/**
 * What can be said about a run before its first step. Impossible schedules are errors of ts/schedule; `plan-does-not-fit`
 * are plans that work but probably do not mean what they say, `other-bits` is one that will not repeat.
 */
export function planWarnings(question: PlanQuestion): WarningRecord[] {
  const checks = [unreachedBudgets, shortDecays, repeatedData, smallValidation, variedBits];
  return checks.flatMap((check) => check(question));
}

const warning = (message: string, suggestion: string): WarningRecord[] => [
  { type: "warning", step: 0, detector: "plan-does-not-fit", message, suggestion },
];

function unreachedBudgets({ schedule, end }: PlanQuestion): WarningRecord[] {
  const missed = schedule.budgets.filter((b) => end !== null && b.end > end);
  if (missed.length === 0) return [];
  const names = missed.map((b) => `${b.index + 1} (decay of steps ${b.decayStart} to ${b.end})`).join(", ");
  return warning(
    `the run stops at step ${formatCount(end!)}, before the end of budget ${names}`,
    "Leave `steps` out to run the whole schedule, or drop those budgets.",
  );
}

/** A decay should be far longer than AdamW's memory of squared gradients, 1 / (1 - beta2) steps. */
function shortDecays({ schedule, config, end }: PlanQuestion): WarningRecord[] {
  const memory = 1 / (1 - config.optimizer.beta2);
  const short = schedule.budgets.find((b) => b.end - b.decayStart < memory && (end === null || b.end <= end));
  if (!short) return [];
  return warning(
    `the decay of budget ${short.index + 1} takes ${short.end - short.decayStart} steps, less than the ${Math.round(memory)} steps that AdamW's second moment remembers (1 / (1 - beta2))`,
    "Use a longer decay (a larger budget or fraction), or a smaller beta2.",
  );
}

function repeatedData({ config, end, tokens, epochSequences }: PlanQuestion): WarningRecord[] {
  if (epochSequences === null || end === null) return [];
  const needed = tokens == null ? end * config.batch.sequences : tokens / config.batch.length;
  if (needed <= epochSequences) return [];
  const epochs = needed / epochSequences;
  const most = Math.floor(epochSequences / config.batch.sequences);
  if (config.data.onEnd === "stop")
    return warning(
      `the data ends after ${formatCount(most)} steps, but the plan has ${formatCount(end)}`,
      "Prepare more data, lower the budgets, or set data.onEnd: repeat.",
    );
  return warning(
    `the plan reads the training data ${epochs.toFixed(1)} times: ${formatCount(end)} steps of ${config.batch.sequences} sequences, ${formatCount(epochSequences)} sequences in an epoch`,
    `Losses of repeated data are no longer those of unseen text. Prepare more data, or keep to ${formatCount(most)} steps.`,
  );
}

function smallValidation({ config, validationSequences }: PlanQuestion): WarningRecord[] {
  const { evaluation } = config;
  const wanted = evaluation.every > 0 || evaluation.atDecays;
  const asked = evaluation.skip + evaluation.sequences;
  if (!wanted || validationSequences === null || validationSequences >= asked) return [];
  const passed = evaluation.skip > 0 ? ` after ${evaluation.skip} passed over` : "";
  return warning(
    `evaluation.sequences asks for ${evaluation.sequences} validation sequences${passed}, the data has ${validationSequences}`,
    validationSequences === 0
      ? "Prepare the data with a validation split, or name one under data.validation."
      : "All of them are used. Prepare a larger validation split for a steadier loss.",
  );
}

function variedBits({ repeatable = true }: PlanQuestion): WarningRecord[] {
  if (repeatable) return [];
  return [
    {
      type: "warning",
      step: 0,
      detector: "other-bits",
      message: "gradientSums is any, and this device adds gradients in any order: no two runs will have the same bits",
      suggestion: "Use gradientSums: ordered (the default) when the bits matter.",
    },
  ];
}
