import type { StudyPlan } from "../study/plan.ts";
import type { SegmentProgress, StudyProgress } from "../study/progress.ts";
import { formatCount, formatDuration } from "../train/format.ts";
import { lossPlot, type Run } from "./curves.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

/** A bar of `width` characters, filled to a share. */
export function progressBar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "█".repeat(filled) + "░".repeat(width - filled);
}

/** One screen of a study as it stands: how far it is, what runs now, what has ended last. */
export function studyScreen(
  plan: StudyPlan,
  progress: StudyProgress,
  options: { width: number; height: number; secondsLeft: number | null },
): string {
  const { segments, stepsDone, stepsTotal, failed } = progress;
  const done = segments.filter((s) => s.standing === "done");
  const running = segments.filter((s) => s.standing === "running");
  const share = stepsTotal === 0 ? 1 : stepsDone / stepsTotal;
  const left = options.secondsLeft === null ? "" : `  ETA ${formatDuration(options.secondsLeft)}`;
  const head = [
    `${plan.spec.name}  ${done.length} of ${segments.length} segments${failed > 0 ? `, ${failed} diverged` : ""}${progress.finished ? "  finished" : ""}`,
    `${progressBar(share, Math.max(10, Math.min(60, options.width - 40)))} ${(100 * share).toFixed(1)}%  ${formatCount(stepsDone)}/${formatCount(stepsTotal)} steps${left}`,
  ];
  const room = Math.max(3, options.height - head.length - 5);
  const shown = [...running, ...done.toReversed()].slice(0, room);
  const table = formatTable(
    ["", { title: "step", align: "right" }, { title: "of", align: "right" }, "loss", "tokens/s", "what"],
    shown.map(line),
  );
  return [...head, "", table].map((text) => clip(text, options.width)).join("\n");
}

const line = ({ segment, standing, step, loss, tokensPerSecond }: SegmentProgress): string[] => [
  standing,
  String(step),
  String(segment.to),
  loss?.toFixed(4) ?? "-",
  standing === "running" && tokensPerSecond !== null ? shortNumber(tokensPerSecond) : "-",
  segment.label,
];

const clip = (text: string, width: number): string =>
  text
    .split("\n")
    .map((row) => [...row].slice(0, width).join(""))
    .join("\n");

/** One screen of a run: its newest numbers over its loss curve. */
export function runScreen(run: Run, options: { width: number; height: number }): string {
  const last = run.steps.at(-1);
  const evaluation = run.evaluations.at(-1);
  const numbers = last
    ? `step ${formatCount(last.step)}  loss ${last.loss.toFixed(4)}  lr ${last.lr.toExponential(2)}  ${shortNumber(last.tokensPerSecond)} tokens/s  ${last.phase}`
    : "no step yet";
  const validation = evaluation
    ? `validation loss ${evaluation.loss.toFixed(4)} at step ${formatCount(evaluation.step)} (${evaluation.occasion})`
    : "no validation yet";
  const plot = lossPlot(run, { width: options.width - 1, height: Math.max(8, options.height - 4) });
  return clip([numbers, validation, plot].join("\n"), options.width);
}
