import { relative } from "node:path";
import type { PrepareProgress, PrepareSummary } from "../data/prepare_job.ts";
import { formatBytes, formatCount, formatDuration } from "../train/format.ts";
import type { ProgressStream } from "../train/progress.ts";
import { formatTable } from "./table.ts";

/** A line that redraws itself on a terminal; a plain line each few seconds elsewhere. */
export function prepareProgress(stream: ProgressStream, seconds = 5): (p: PrepareProgress) => void {
  let last = 0;
  return (p) => {
    const pause = stream.isTTY ? 0.1 : seconds;
    if (p.seconds - last < pause && !(p.done && last > 0)) return;
    last = p.seconds;
    const rate = (p.bytesDone - p.bytesAtStart) / Math.max(p.seconds, 1e-9);
    const known = p.bytesTotal > 0;
    const left = rate > 0 && known && !p.done ? `  ETA ${formatDuration((p.bytesTotal - p.bytesDone) / rate)}` : "";
    const read = known ? `${formatBytes(p.bytesDone)} of ${formatBytes(p.bytesTotal)}` : formatBytes(p.bytesDone);
    const line = `${read}  ${formatCount(p.documents)} documents  ${formatCount(p.tokens)} tokens  ${formatBytes(rate)}/s${left}`;
    stream.write(stream.isTTY ? `\r\u001b[2K${line}${p.done ? "\n" : ""}` : `${line}\n`);
  };
}

/** What `data prepare` made, as text. */
export function formatPrepared({ output, train, validation, report, resumed, seconds }: PrepareSummary): string {
  const row = (name: string, part: typeof train | null) =>
    part === null ? [] : [[name, formatCount(part.documents), formatCount(part.tokens)]];
  const table = formatTable(
    [relative(".", output) || ".", { title: "documents", align: "right" }, { title: "tokens", align: "right" }],
    [...row("train", train), ...row("validation", validation)],
  );
  const how = resumed ? " (an interrupted run was taken up)" : "";
  const read = `${formatCount(report.files)} files read in ${formatDuration(seconds)}${how}, ${formatCount(report.duplicates)} duplicate documents left out, ${formatCount(report.bad)} unreadable${report.bad > 0 ? " (all in rejects.jsonl)" : ""}`;
  return [table, read, ...report.badExamples.map((e) => `  ${e}`)].join("\n");
}
