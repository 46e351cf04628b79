import type { Plan, Planned } from "../schedule/planner.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

/** What a step costs, where it is known. */
export interface StepCosts {
  readonly tokens: number;
  readonly flops: number | null;
  readonly checkpointBytes: number | null;
  /** Measured tokens per second; null when not measured. */
  readonly tokensPerSecond: number | null;
}

const right = (title: string) => ({ title, align: "right" as const });

/** Plans as tables: what each costs in all, and what each deliverable costs in the three meanings of compute. */
export function planReport({ plans, problems }: Planned, costs: StepCosts): string {
  const lines = [costTable(plans, costs), "", deliverableTable(plans)];
  for (const { plan, message } of problems) lines.push("", `does not fit: ${plan}: ${message}`);
  return lines.join("\n");
}

function costTable(plans: readonly Plan[], { tokens, flops, checkpointBytes, tokensPerSecond }: StepCosts): string {
  const columns = ["runs", "steps", "tokens", "FLOPs", "hours", "checkpoints", "disk"].map(right);
  const rows = plans.map(({ name, paths, steps, checkpoints }) => [
    name,
    String(paths.length),
    String(steps),
    shortNumber(steps * tokens, 4),
    flops === null ? "" : (steps * flops).toExponential(2),
    tokensPerSecond === null ? "" : shortNumber((steps * tokens) / tokensPerSecond / 3600, 3),
    String(checkpoints.length),
    checkpointBytes === null ? "" : `${shortNumber(checkpoints.length * checkpointBytes, 3)}B`,
  ]);
  return formatTable(["plan", ...columns], rows);
}

function deliverableTable(plans: readonly Plan[]): string {
  const columns = ["budget", "path steps", "compute for 1..k", "compute for k alone"].map(right);
  const rows = plans.flatMap(({ name, deliverables }) =>
    deliverables.map((d, i) => [
      i === 0 ? name : "",
      String(d.budget),
      String(d.step),
      String(d.cumulative),
      String(d.alone),
    ]),
  );
  return formatTable(["deliverable of", ...columns], rows);
}
