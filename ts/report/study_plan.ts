import { groupBy } from "../study/group.ts";
import type { PlannedSegment, StudyPlan } from "../study/plan.ts";
import type { StudyProgress } from "../study/progress.ts";
import { formatBytes, formatCount, formatDuration } from "../train/format.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

/** What a plan's text needs beside the plan. */
export interface PlanCosts {
  /** Tokens per second of one process, by shape; null where not measured. */
  readonly speeds: readonly (number | null)[];
  readonly jobs: number;
  readonly threads: number;
  /** Seconds for all that is missing; null when a speed is not known. */
  readonly seconds: number | null;
  readonly stepsDone: number;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

/** Segments as trees, branches indented under what they go on from; equal trees (other seeds, other peaks) are only counted. */
export function treeText(plan: StudyPlan): string {
  const children = groupBy(plan.segments, (s) => s.parent);
  const trees = groupBy(children.get(null) ?? [], (root) => subtreeText(root, children));
  return [...trees]
    .map(([text, roots]) => {
      const labels = roots.map((root) => root.label.slice(root.schedules.length + 2));
      const shown = labels.length > 6 ? [...labels.slice(0, 5), `and ${labels.length - 5} more`] : labels;
      return `${labels.length > 1 ? `${labels.length} times: ` : ""}${shown.join("; ") || "one tree"}\n${text}`;
    })
    .join("\n\n");
}

function subtreeText(root: PlannedSegment, children: ReadonlyMap<string | null, readonly PlannedSegment[]>): string {
  const found: [PlannedSegment, number][] = [];
  const visit = (segment: PlannedSegment, depth: number): void => {
    found.push([segment, depth]);
    const next = children.get(segment.id) ?? [];
    // A chain is no nesting: only branches are indented.
    for (const child of next) visit(child, depth + (next.length > 1 ? 1 : 0));
  };
  visit(root, 0);
  const width = String(Math.max(...found.map(([segment]) => segment.to))).length;
  return found
    .map(([{ from, to, schedules }, depth]) => {
      const steps = `${String(from).padStart(width)} - ${String(to).padStart(width)}`;
      return `  ${"· ".repeat(depth)}${steps}  ${schedules}`;
    })
    .join("\n");
}

/** Everything `study plan` prints. */
export function studyPlanText(plan: StudyPlan, costs: PlanCosts): string {
  const { spec, sharing, segments, runs, shapes } = plan;
  const schedules = new Set(runs.map((run) => run.schedule));
  const deliverables = runs.reduce((sum, run) => sum + (run.control ? 0 : run.deliverables.length), 0);
  const head = `${spec.name}: ${schedules.size} schedules, ${deliverables} deliverables, ${segments.length} segments (${spec.kind})`;
  const facts = formatTable(
    ["", ""],
    [
      ["steps", `${formatCount(sharing.steps)}, of which ${formatCount(costs.stepsDone)} are done`],
      ["tokens", shortNumber(tokensOf(plan), 4)],
      ["FLOPs", flopsOf(plan).toExponential(2).replace("e+", "e")],
      ["hours", hoursText(plan, costs)],
      [
        "disk",
        `${formatBytes(diskOf(plan))} of checkpoints${spec.execution.checkpoints === "needed" ? ", dropped when nothing needs them" : ""}`,
      ],
      ["memory", `${formatBytes(Math.max(0, ...shapes.map((s) => s.memoryBytes)))} in one process`],
      ["from scratch", `${formatCount(sharing.fromScratch)} steps, one run for each schedule, budget and seed`],
      ["", `sharing saves ${percent(sharing.savedFromScratch)} of them`],
      ["by hand", `${formatCount(sharing.byHand)} steps, each schedule's own trunk, chain or runs`],
      ["", `sharing across schedules saves ${percent(sharing.savedByHand)} of them`],
    ],
  );
  const body = facts.split("\n").slice(2).join("\n");
  const warnings = plan.warnings.map((message) => `warning: ${message}`).join("\n");
  return [head, spec.question, "", treeText(plan), "", body, ...(warnings ? ["", warnings] : [])]
    .filter((line, i) => i !== 1 || line !== "")
    .join("\n");
}

function hoursText(plan: StudyPlan, { speeds, jobs, threads, seconds }: PlanCosts): string {
  if (seconds === null) return "not known: measure a speed, or say --tokens-per-second";
  const shown = [...new Set(plan.shapes.map((_, i) => shortNumber(speeds[i] ?? 0)))].join(", ");
  const crew = `${jobs} at a time with ${threads} ${threads === 1 ? "thread" : "threads"} each, ${shown} tokens/s each`;
  return `${(seconds / 3600).toFixed(seconds < 3600 ? 2 : 1)} (${formatDuration(seconds)}): ${crew}`;
}

const sum = (plan: StudyPlan, of: (segment: PlannedSegment) => number): number =>
  plan.segments.reduce((total, segment) => total + of(segment), 0);

const tokensOf = (plan: StudyPlan): number =>
  sum(plan, ({ from, to, shape }) => (to - from) * plan.shapes[shape]!.tokensPerStep);

const flopsOf = (plan: StudyPlan): number =>
  sum(plan, ({ from, to, shape }) => {
    const { tokensPerStep, flopsPerToken } = plan.shapes[shape]!;
    return (to - from) * tokensPerStep * flopsPerToken;
  });

/** One checkpoint at each segment's end, and one on the way. */
const diskOf = (plan: StudyPlan): number => sum(plan, ({ shape }) => plan.shapes[shape]!.checkpointBytes);

/** The same as JSON. */
export function studyPlanJson(plan: StudyPlan, costs: PlanCosts): unknown {
  const { sharing, segments, runs, warnings, deviceClass } = plan;
  const slim = segments.map(({ config: _, ...segment }) => segment);
  const totals = { tokens: tokensOf(plan), flops: flopsOf(plan), diskBytes: diskOf(plan) };
  return { name: plan.spec.name, deviceClass, sharing, ...totals, ...costs, segments: slim, runs, warnings };
}

/** `thalweg study status`: a line for each segment that is not finished, and a summary. */
export function statusText(plan: StudyPlan, progress: StudyProgress): string {
  const { segments, stepsDone, stepsTotal, failed } = progress;
  const done = segments.filter((s) => s.standing === "done").length;
  const open = segments.filter((s) => s.standing !== "done");
  const table = formatTable(
    ["segment", "standing", { title: "step", align: "right" }, { title: "of", align: "right" }, "loss", "what"],
    open.map(({ segment, standing, step, loss }) => [
      segment.id,
      standing,
      String(step),
      String(segment.to),
      loss?.toFixed(4) ?? "-",
      segment.label,
    ]),
  );
  const share = stepsTotal === 0 ? 1 : stepsDone / stepsTotal;
  const summary = `${plan.spec.name}: ${done} of ${segments.length} segments, ${formatCount(stepsDone)} of ${formatCount(stepsTotal)} steps (${percent(share)})${failed > 0 ? `, ${failed} diverged` : ""}`;
  return open.length === 0 ? summary : `${summary}\n\n${table}`;
}
