import { canonicalJson } from "../config/canonical.ts";
import type { EntropyLoss, EvaluationRecord, MetricsRecord, StepRecord } from "../train/records.ts";
import { sum } from "./group.ts";
import { mergesOf } from "./merge_plan.ts";
import { mergedLoss } from "./merged.ts";
import type { PlannedDeliverable, PlannedSegment, PlannedStudyRun, StudyPlan } from "./plan.ts";
import type { StudyStore } from "./store.ts";

/** One deliverable of one replicate: what a study measured. */
export interface ResultRow {
  readonly schedule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly replicate: Readonly<Record<string, string>>;
  readonly control: boolean;
  readonly budget: number;
  /** B_k in steps. */
  readonly nominal: number;
  /** Updates that the weights have seen. */
  readonly step: number;
  readonly tokens: number;
  readonly peak: number;
  readonly lrSum: number;
  /** Tokens trained, branches and all, for this schedule's deliverables up to this one. */
  readonly cumulativeTokens: number;
  /** Tokens trained, had only this one been wanted. */
  readonly aloneTokens: number;
  /** Different tokens read on the way; null when the data are not known. */
  readonly uniqueTokens: number | null;
  readonly epochs: number | null;
  /** Name of the weights: equal for deliverables that are the same by construction. */
  readonly state: string;
  /** Validation loss in nats per token; null while missing or when the run diverged. */
  readonly loss: number | null;
  /** Mean true entropy of the tokens evaluated, in nats; null where the data do not know it. */
  readonly entropy: number | null;
  /** The loss by the true entropy of the token, over all validation sets; null like `entropy`. */
  readonly byEntropy: readonly EntropyLoss[] | null;
  /** Loss of the control at the same step: same data, constant rate. */
  readonly controlLoss: number | null;
}

/** A run's curve, put together from the segments it passes through. */
export interface StudyCurve {
  readonly run: PlannedStudyRun;
  readonly steps: readonly StepRecord[];
  readonly evaluations: readonly EvaluationRecord[];
}

export interface StudyResults {
  readonly rows: readonly ResultRow[];
  readonly curves: readonly StudyCurve[];
}

/** Reads everything that a study has measured so far. */
export async function collectResults(plan: StudyPlan, store: StudyStore): Promise<StudyResults> {
  const byId = new Map(plan.segments.map((s) => [s.id, s]));
  const records = new Map<string, MetricsRecord[]>();
  for (const { id } of plan.segments) records.set(id, await store.records(id));
  const curves = plan.runs.map((run) => curveOf(run, byId, records));
  const controls = new Map<string, StudyCurve>();
  for (const curve of curves) if (curve.run.control) controls.set(experimentOf(curve.run), curve);
  const merged = new Map<string, number | null>();
  for (const { id } of mergesOf(plan)) merged.set(id, await mergedLoss(store, id));
  const rows = curves.flatMap((curve) =>
    curve.run.deliverables.map((d) =>
      rowOf(curve, d, plan, controls.get(experimentOf(curve.run)), deliveredLoss(curve, d, merged)),
    ),
  );
  return { rows, curves };
}

/** What a run and its control have in common. */
const experimentOf = ({ labels, replicate }: Pick<PlannedStudyRun, "labels" | "replicate">): string =>
  canonicalJson([labels, replicate]);

/** A segment may have begun before its parent's end, when the tree was another one: its own part counts. */
function curveOf(
  run: PlannedStudyRun,
  byId: ReadonlyMap<string, PlannedSegment>,
  records: ReadonlyMap<string, readonly MetricsRecord[]>,
): StudyCurve {
  const steps: StepRecord[] = [];
  const evaluations: EvaluationRecord[] = [];
  for (const id of run.path) {
    const { from, to } = byId.get(id)!;
    for (const record of records.get(id)!) {
      if (record.type !== "step" && record.type !== "evaluation") continue;
      if (record.step <= from || record.step > to) continue;
      if (record.type === "step") steps.push(record);
      else evaluations.push(record);
    }
  }
  return { run, steps, evaluations };
}

function deliveredLoss(
  curve: StudyCurve,
  { step, average, merge }: PlannedDeliverable,
  merged: ReadonlyMap<string, number | null>,
): number | null {
  if (merge) return merged.get(merge.id) ?? null;
  return average === "ema" ? (evaluationAt(curve, step)?.averageLoss ?? null) : lossAt(curve, step);
}

const evaluationAt = (curve: StudyCurve | undefined, step: number) =>
  curve?.evaluations.findLast((e) => e.step === step);

const lossAt = (curve: StudyCurve | undefined, step: number): number | null => evaluationAt(curve, step)?.loss ?? null;

/** Classes of one validation set; of several sets none, since a token's class would not say of which. */
function entropyClasses(evaluation: EvaluationRecord | undefined): readonly EntropyLoss[] | null {
  const sets = Object.values(evaluation?.sets ?? {});
  return (sets.length === 1 && sets[0]!.byEntropy) || null;
}

const meanEntropy = (classes: readonly EntropyLoss[]): number =>
  sum(classes.map(({ tokens, entropy }) => tokens * entropy)) / sum(classes.map(({ tokens }) => tokens));

function rowOf(
  curve: StudyCurve,
  deliverable: PlannedDeliverable,
  plan: StudyPlan,
  control: StudyCurve | undefined,
  loss: number | null,
): ResultRow {
  const { run } = curve;
  const { budget, nominal, step, state, steps, lrSum, average, merge } = deliverable;
  const { tokensPerStep, epochTokens } = plan.shapes[run.shape]!;
  const tokens = step * tokensPerStep;
  const byEntropy = average || merge ? null : entropyClasses(evaluationAt(curve, step));
  return {
    schedule: run.schedule,
    labels: run.labels,
    replicate: run.replicate,
    control: run.control,
    budget,
    nominal,
    step,
    tokens,
    peak: run.peak,
    lrSum,
    cumulativeTokens: steps.cumulative * tokensPerStep,
    aloneTokens: steps.alone * tokensPerStep,
    uniqueTokens: epochTokens === null ? null : Math.min(tokens, epochTokens),
    epochs: epochTokens === null ? null : tokens / epochTokens,
    state: merge?.id ?? (average === "ema" ? `${state} ema` : state),
    loss,
    entropy: byEntropy ? meanEntropy(byEntropy) : null,
    byEntropy,
    controlLoss: run.control ? null : lossAt(control, step),
  };
}
