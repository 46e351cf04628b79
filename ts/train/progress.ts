import { formatBytes, formatCount, formatDuration } from "./format.ts";
import type { CheckpointRecord, EvaluationRecord, WarningRecord } from "./records.ts";
import type { Progress, Reporter } from "./reporter.ts";

/** What a reporter needs of a terminal or a file. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export interface ProgressOptions {
  stream: ProgressStream;
  /** One JSON object a line, nothing else. */
  json?: boolean;
  /** Least seconds between lines when the stream is no terminal; on a terminal, between redraws a tenth of it. */
  seconds?: number;
  /** Clock in milliseconds; for tests. */
  now?: () => number;
}

/** `step 1,200/4,000  loss 2.3456  lr 1.20e-3  norm 0.81  12,345 tok/s  mfu 41%  stable  ETA 3 min 20 s` */
export function progressLine({ record, end, secondsLeft }: Progress): string {
  const step = formatCount(record.step);
  return [
    end === null ? `step ${step}` : `step ${step}/${formatCount(end)}`,
    `loss ${record.loss.toFixed(4)}`,
    `lr ${record.lr.toExponential(2)}`,
    `norm ${record.gradNorm.toFixed(2)}`,
    `${formatCount(Math.round(record.tokensPerSecond))} tok/s`,
    ...(record.share === null ? [] : [`${(100 * record.share).toFixed(0)}% of peak`]),
    record.phase,
    ...(secondsLeft === null ? [] : [`ETA ${formatDuration(secondsLeft)}`]),
  ].join("  ");
}

export function evaluationLine(r: EvaluationRecord): string {
  const budget = r.budget === null ? "" : ` of budget ${r.budget + 1}`;
  const sets = Object.entries(r.sets ?? {});
  const each = sets.length < 2 ? "" : `  ${sets.map(([name, { loss }]) => `${name} ${loss.toFixed(4)}`).join("  ")}`;
  const average = r.averageLoss === undefined ? "" : `, averaged weights ${r.averageLoss.toFixed(4)}`;
  return `step ${formatCount(r.step)}  validation loss ${r.loss.toFixed(4)}${average}${each}  (${r.occasion}${budget})`;
}

export function checkpointLine(r: CheckpointRecord): string {
  return `step ${formatCount(r.step)}  saved ${r.path}  ${formatBytes(r.bytes)}  (${r.occasion})`;
}

export function warningLine(r: WarningRecord): string {
  return `warning: ${r.detector} at step ${formatCount(r.step)}: ${r.message}\n  ${r.suggestion}`;
}

/** A status line that redraws itself on a terminal; a plain line each few seconds in a file; JSON lines on request. */
export function progressReporter(options: ProgressOptions): Reporter {
  return options.json ? jsonReporter(options) : textReporter(options);
}

function textReporter({ stream, seconds = 5, now = Date.now }: ProgressOptions): Reporter {
  const live = stream.isTTY === true;
  const pause = (live ? seconds / 10 : seconds) * 1000;
  let last = Number.NEGATIVE_INFINITY;
  let status = "";
  const erase = () => {
    if (status !== "") stream.write("\r\x1b[2K");
    status = "";
  };
  const line = (text: string) => {
    erase();
    stream.write(`${text}\n`);
  };
  return {
    start: (plan, fromStep) => {
      const end = plan.steps === null ? "no horizon" : `${formatCount(plan.steps)} steps`;
      const from = fromStep > 0 ? `, from step ${formatCount(fromStep)}` : "";
      const size = `${formatCount(plan.parameters.total)} parameters, ${formatCount(plan.tokensPerStep)} tokens a step`;
      line(`${plan.name}: ${size}, ${end}${from}, micro-batch ${plan.microBatch} x ${plan.length}`);
    },
    step: (progress) => {
      const due = now() - last >= pause || progress.record.step === progress.end;
      if (!due) return;
      last = now();
      const text = progressLine(progress);
      if (!live) return line(text);
      erase();
      status = text.slice(0, Math.max(20, (stream.columns ?? 120) - 1));
      stream.write(status);
    },
    evaluation: (r) => line(evaluationLine(r)),
    checkpoint: (r) => line(checkpointLine(r)),
    warning: (r) => line(warningLine(r)),
    note: line,
    end: () => {
      if (status !== "") stream.write("\n");
      status = "";
    },
  };
}

function jsonReporter({ stream, seconds = 1, now = Date.now }: ProgressOptions): Reporter {
  let last = Number.NEGATIVE_INFINITY;
  const line = (value: unknown) => void stream.write(`${JSON.stringify(value)}\n`);
  return {
    start: (plan, fromStep) => line({ type: "start", fromStep, plan }),
    step: ({ record, end, secondsLeft }) => {
      if (now() - last < seconds * 1000 && record.step !== end) return;
      last = now();
      line({ ...record, end, secondsLeft });
    },
    evaluation: line,
    checkpoint: line,
    warning: line,
    note: (text) => line({ type: "note", text }),
    end: () => undefined,
  };
}
