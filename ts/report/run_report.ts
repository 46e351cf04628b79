import { summarize } from "../train/compare.ts";
import { comparisonReport } from "./compare.ts";
import { curvesSvg, decaysOf, type Run } from "./curves.ts";
import { downloadLink, figureHtml, htmlPage, type Section, tableHtml } from "./html.ts";
import { shortNumber } from "./scale.ts";

const nats = (value: number | null): string => value?.toFixed(4) ?? "-";

/** One or several ordinary runs as a page that needs nothing else. */
export function runReport(runs: readonly Run[]): string {
  const report = comparisonReport(runs);
  const title = runs.map((run) => run.name).join(" and ");
  const rows = report.summaries.map((run) => [
    run.name,
    String(run.steps),
    shortNumber(run.tokens, 4),
    nats(run.trainLoss),
    nats(run.validationLoss),
    nats(run.bestValidationLoss),
    run.tokensPerSecond === null ? "-" : shortNumber(run.tokensPerSecond),
  ]);
  const numbers = ["steps", "tokens", "training", "validation", "best", "tokens/s"].map(
    (name) => ({ title: name, number: true }) as const,
  );
  const sections: Section[] = [
    {
      title: "Curves",
      body: figureHtml(
        curvesSvg(runs, { title }),
        "Loss in nats per token; the learning rate stands below on the same axis.",
      ),
    },
    {
      title: "Runs",
      body: `${tableHtml(["run", ...numbers], rows)}\n<p class="faint">Training: mean of the last records. Every loss: ${downloadLink("losses.csv", "text/csv", report.csv)}.</p>`,
    },
    ...decaySection(runs),
  ];
  return htmlPage(
    title,
    `<p>${runs.length === 1 ? "One run" : `${runs.length} runs`}; not a study: nothing is repeated or controlled for.</p>`,
    sections,
  );
}

function decaySection(runs: readonly Run[]): Section[] {
  const rows = runs.flatMap((run) =>
    decaysOf(run).map(({ budget, start, end, before, after }) => [
      summarize({ ...run, path: "" }).name,
      String(budget + 1),
      `${start} - ${end}`,
      nats(before),
      nats(after),
      nats(before - after),
    ]),
  );
  if (rows.length === 0) return [];
  const numbers = ["budget", "steps", "before", "after", "drop"].map((title) => ({ title, number: true }) as const);
  return [{ title: "Decays", body: tableHtml(["run", ...numbers], rows) }];
}
