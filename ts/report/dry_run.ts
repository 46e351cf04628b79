import type { DryRun } from "../train/dryrun.ts";
import { formatBytes, formatCount } from "../train/format.ts";
import { warningLine } from "../train/progress.ts";
import { formatTable } from "./table.ts";

const known = (value: number | null, format: (v: number) => string): string =>
  value === null ? "open" : format(value);

const magnitude = (value: number): string => value.toExponential(2);

/** How much less attention does inside documents, only their lengths can tell. */
const bounded = ({ attention }: DryRun, flops: number): string =>
  `${magnitude(flops)}${attention === "documents" ? " at most, less inside documents" : ""}`;

/** A dry run as a page of text. */
export function formatDryRun(plan: DryRun): string {
  const { parameters, memory } = plan;
  const held = Object.entries(memory.scratchByPurpose).filter(([, bytes]) => (bytes ?? 0) > 0);
  const sections = [
    formatTable(
      [plan.name, ""],
      [
        ["parameters", `${formatCount(parameters.total)} (${formatCount(parameters.nonEmbedding)} without embeddings)`],
        ["FLOPs per token", bounded(plan, plan.flopsPerToken)],
        ["FLOPs of the run", known(plan.flops, (flops) => bounded(plan, flops))],
        ["steps", known(plan.steps, formatCount)],
        ["tokens", known(plan.tokens, formatCount)],
        [
          "batch",
          `${plan.sequences} sequences of ${plan.length} = ${formatCount(plan.tokensPerStep)} tokens, ${plan.microBatch} at once`,
        ],
        ["epochs", plan.epochs === null ? "unknown: no data yet" : plan.epochs.toFixed(2)],
      ],
    ),
    formatTable(
      ["memory", { title: "", align: "right" }],
      [
        ["parameters (fp32)", formatBytes(memory.parameters)],
        ["gradients (fp32)", formatBytes(memory.gradients)],
        ["optimizer", formatBytes(memory.optimizer)],
        ["packed weights", formatBytes(memory.packedWeights)],
        ["activations and scratch", formatBytes(memory.scratch)],
        ...held.map(([purpose, bytes]) => [`  ${purpose}`, formatBytes(bytes ?? 0)]),
        ["kernel workspace", formatBytes(memory.workspace)],
        ["checkpoint being written", formatBytes(memory.checkpointCopy)],
        ["inputs, outputs, caches", formatBytes(memory.io)],
        ["total", formatBytes(memory.total)],
      ],
    ),
    checkpointsOf(plan),
    ...plan.warnings.map(warningLine),
  ];
  return sections.filter((section) => section !== "").join("\n\n");
}

/** Pinned checkpoints one by one; regular ones, of which rotation keeps a few, as a count. */
function checkpointsOf(plan: DryRun): string {
  if (plan.checkpoints.length === 0) return "no checkpoints";
  const pinned = plan.checkpoints.filter((c) => c.pinned);
  const regular = plan.checkpoints.length - pinned.length;
  const rows = pinned.map((c) => [formatCount(c.step), c.occasion, formatBytes(plan.checkpointBytes)]);
  if (regular > 0) rows.push([`${formatCount(regular)} more`, "periodic, rotated", formatBytes(plan.checkpointBytes)]);
  const table = formatTable(
    [{ title: "checkpoint at step", align: "right" }, "", { title: "size", align: "right" }],
    rows,
  );
  return `${table}\ndisk at most ${formatBytes(plan.diskBytes)}`;
}
