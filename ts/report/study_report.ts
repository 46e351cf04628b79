import type { Cell, CellComparison, Comparisons } from "../study/comparisons.ts";
import { compareCells } from "../study/comparisons.ts";
import { groupBy } from "../study/group.ts";
import { checkMethod, type MethodFinding } from "../study/method.ts";
import type { StudyPlan } from "../study/plan.ts";
import type { ResultRow, StudyResults } from "../study/results.ts";
import type { TunedFile } from "../study/tuned.ts";
import { csvText } from "./csv.ts";
import { downloadLink, escapeHtml, figureHtml, htmlPage, type Section, tableHtml } from "./html.ts";
import { shortNumber } from "./scale.ts";
import { entropySection } from "./study_entropy.ts";
import { axisFigure, budgetFigure, colorsOf, computeFigure, curvesFigure, gainFigure } from "./study_figures.ts";
import { type Figure, svgFigure } from "./svg.ts";
import { formatTable } from "./table.ts";

export interface StudyReport {
  readonly html: string;
  readonly csv: string;
  /** Figures by file name, as SVG. */
  readonly figures: Readonly<Record<string, string>>;
  /** Cells and comparisons as text, for the terminal. */
  readonly text: string;
  readonly json: unknown;
}

/** Everything that a study found, as one page, tables and files. It may be made at any time: what is missing is said. */
export function studyReport(plan: StudyPlan, results: StudyResults, tuned: TunedFile | null): StudyReport {
  const comparisons = compareCells(plan, results.rows);
  const findings = checkMethod(plan, tuned, results.rows);
  const figures = figuresOf(plan, results, comparisons.cells);
  const csv = rowsCsv(results.rows);
  return {
    html: page(plan, results, comparisons, findings, tuned, figures, csv),
    csv,
    figures: Object.fromEntries(Object.entries(figures).map(([name, { svg }]) => [`${name}.svg`, svg])),
    text: reportText(plan, comparisons),
    json: { name: plan.spec.name, kind: plan.spec.kind, findings, tuned, ...comparisons, rows: results.rows },
  };
}

interface Drawn {
  readonly svg: string;
  readonly caption: string;
}

function figuresOf(plan: StudyPlan, { curves }: StudyResults, cells: readonly Cell[]): Record<string, Drawn> {
  const colors = colorsOf(plan);
  const { tokensPerStep } = plan.shapes[0]!;
  const axes = Object.keys(plan.spec.axes).filter((axis) => cells.some((cell) => axis in cell.labels));
  const own = distinctCells(cells);
  const byAxis = axes.map((axis) => [`axis-${axis}`, axisFigure(cells, axis, colors), ""] as const);
  // At one budget everything stands at one place: the axes say more.
  const spread = new Set(cells.map((cell) => cell.budget)).size > 1 || byAxis.every(([, figure]) => figure === null);
  const all: readonly (readonly [name: string, figure: Figure | null, caption: string])[] = [
    [
      "curves",
      curvesFigure(curves, tokensPerStep, colors),
      "Between the ends of segments the loss is measured at regular steps. The learning rate stands below on the same axis.",
    ],
    ["budgets", spread ? budgetFigure(own, tokensPerStep, colors) : null, ""],
    [
      "compute",
      spread ? computeFigure(own, colors) : null,
      "The same losses against what was trained for them. Which schedule looks better can depend on the meaning of compute.",
    ],
    [
      "gain",
      spread ? gainFigure(own, tokensPerStep, colors) : null,
      "The control goes on at the constant rate over the same data; what it gains by itself is no merit of the decay.",
    ],
    ...byAxis,
  ];
  const drawn = all.flatMap(([name, figure, caption]) =>
    figure === null ? [] : [[name.replaceAll(/[^\w-]+/g, "-"), { svg: svgFigure(figure), caption }] as const],
  );
  return Object.fromEntries(drawn);
}

/** Cells of the same weights under different labels, which do not concern them, as one without those labels. */
function distinctCells(cells: readonly Cell[]): Cell[] {
  const same = groupBy(cells, ({ schedule, budget, rows }) =>
    JSON.stringify([schedule, budget, rows.map((row) => row.state)]),
  );
  return [...same.values()].map(([first, ...others]) => {
    const common = Object.entries(first!.labels).filter(([axis, label]) =>
      others.every((cell) => cell.labels[axis] === label),
    );
    return { ...first!, labels: Object.fromEntries(common) };
  });
}

const nats = (value: number | null | undefined, digits = 4): string =>
  value === null || value === undefined || Number.isNaN(value) ? "-" : value.toFixed(digits);

const probability = (p: number | null): string => (p === null ? "-" : p < 0.001 ? "< 0.001" : p.toFixed(3));

const labelText = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([axis, label]) => `${axis}=${label}`)
    .join(", ");

/** "1.6204 [1.6133, 1.6275]" */
const interval = (estimate: Cell["loss"]): string =>
  estimate === null
    ? "-"
    : estimate.n === 1
      ? nats(estimate.mean)
      : `${nats(estimate.mean)} [${nats(estimate.low)}, ${nats(estimate.high)}]`;

const cellColumns = [
  "schedule",
  "axes",
  "budget",
  "step",
  "tokens",
  "all training",
  "sum of lr",
  "seeds",
  "loss",
  "gain",
];

function cellCells(cell: Cell): string[] {
  const row = cell.rows[0]!;
  const missing = cell.rows.filter(({ loss }) => loss === null).length;
  return [
    cell.schedule,
    labelText(cell.labels),
    String(cell.budget + 1),
    String(row.step),
    shortNumber(row.tokens, 4),
    shortNumber(row.cumulativeTokens, 4),
    shortNumber(row.lrSum, 4),
    missing === 0 ? String(cell.rows.length) : `${cell.rows.length - missing} of ${cell.rows.length}`,
    interval(cell.loss),
    interval(cell.gain),
  ];
}

const comparisonColumns = [
  "difference",
  "where",
  "n",
  "mean [interval]",
  "p (Holm)",
  "p equivalent",
  "compute",
  "verdict",
  "seeds needed",
];

function comparisonCells(c: CellComparison): string[] {
  const compute = (["path", "cumulative", "alone"] as const).map((key) => c.compute[key].toFixed(2)).join(" / ");
  const needed = [c.pairsForDifference, c.pairsForEquivalence].map((n) => (n === null ? "-" : String(n))).join(" / ");
  return [
    `${c.a} - ${c.b}`,
    c.where,
    String(c.n),
    interval(c),
    probability(c.pHolm),
    probability(c.pEquivalentHolm),
    compute,
    c.verdict,
    needed,
  ];
}

/** Cells and comparisons for the terminal. */
function reportText(plan: StudyPlan, { cells, compared, identical }: Comparisons): string {
  const numeric = (titles: readonly string[], words: number) =>
    titles.map((title, i) => ({ title, align: i < words ? ("left" as const) : ("right" as const) }));
  const parts = [
    `${plan.spec.name} (${plan.spec.kind})`,
    formatTable(numeric(cellColumns, 2), distinctCells(cells).map(cellCells)),
  ];
  if (compared.length > 0) parts.push(formatTable(numeric(comparisonColumns, 2), compared.map(comparisonCells)));
  if (identical.length > 0) parts.push(`left out, the same weights by construction: ${identical.join("; ")}`);
  return parts.join("\n\n");
}

const columns = (titles: readonly string[], words: number) =>
  titles.map((title, i) => (i < words ? title : ({ title, number: true } as const)));

function page(
  plan: StudyPlan,
  { rows }: StudyResults,
  comparisons: Comparisons,
  findings: readonly MethodFinding[],
  tuned: TunedFile | null,
  figures: Readonly<Record<string, Drawn>>,
  csv: string,
): string {
  const { spec } = plan;
  const cells = distinctCells(comparisons.cells);
  const named = (wanted: (name: string) => boolean) => Object.entries(figures).filter(([name]) => wanted(name));
  const isAxis = (name: string) => name.startsWith("axis-");
  const losses = figures.budgets ? [figures.budgets] : named(isAxis).map(([, figure]) => figure);
  const missing = rows.filter((row) => row.loss === null && !row.control).length;
  const head = `<p>${escapeHtml(spec.question)}</p>\n<p>${standing(spec.kind, findings)}</p>${
    missing > 0
      ? `\n<p><strong>${missing} of ${rows.filter((row) => !row.control).length} losses are missing:</strong> not trained yet, or diverged.</p>`
      : ""
  }`;
  const sections: Section[] = [
    ...Object.values(figures)
      .slice(0, 1)
      .map(({ svg, caption }) => ({ title: "Curves", body: figureHtml(svg, caption) })),
    {
      title: "Losses",
      body: `${losses.map(({ svg }) => figureHtml(svg)).join("\n")}\n${tableHtml(columns(cellColumns, 2), cells.map(cellCells))}\n<p class="faint">Loss and gain in nats per token, mean over seeds with the ${percent(1 - spec.alpha)} interval of Student's t. Files: ${downloadLink(`${spec.name}.csv`, "text/csv", csv)}.</p>`,
    },
    ...entropySection(cells, spec.alpha, { labels: ({ labels }) => labelText(labels), interval }),
    comparisonSection(plan, comparisons),
    {
      title: "Compute",
      body: `${figures.compute ? `${figureHtml(figures.compute.svg, figures.compute.caption)}\n` : ""}${sharingText(plan)}\n${dataTable(cells)}`,
    },
    ...named((name) => name === "gain" || (isAxis(name) && figures.budgets !== undefined)).map(
      ([name, { svg, caption }]) => ({
        title: name === "gain" ? "What the decay gains" : `By ${name.slice(5)}`,
        body: figureHtml(svg, caption),
      }),
    ),
    ...(tuned ? [tuningSection(tuned)] : []),
    { title: "Method", body: methodList(findings) },
  ];
  return htmlPage(spec.name, head, sections);
}

const percent = (share: number): string => `${Number((100 * share).toFixed(1))}%`;

/** What the page may be read as: a claim only when the study said so and keeps every rule. */
function standing(kind: "demonstration" | "claim", findings: readonly MethodFinding[]): string {
  const broken = findings.filter(({ ok }) => !ok).length;
  const badge = (word: string) => `<span class="badge ${word}">${word}</span>`;
  if (kind === "claim" && broken === 0) return `${badge("claim")} Every rule of method below is kept.`;
  const why =
    kind === "claim"
      ? `It was meant as a claim, but ${broken === 1 ? "a rule" : `${broken} rules`} of method below ${broken === 1 ? "is" : "are"} not kept.`
      : "It shows how such runs look. It does not say which schedule is better.";
  return `${badge("demonstration")} ${why}`;
}

function comparisonSection(plan: StudyPlan, { compared, identical }: Comparisons): Section {
  const { alpha, margin } = plan.spec;
  const notes = [
    `Paired by seed; negative: the first is lower. Intervals ${percent(1 - alpha)}, p values adjusted by Holm over all ${compared.length} comparisons.`,
    margin === undefined
      ? "No margin is declared, so nothing can be called equivalent."
      : `Equivalent: two one-sided tests find the difference within ±${margin} nats.`,
    "Compute: that of the first over that of the second, for the delivered weights / for all budgets so far / for this budget alone; an ordering at unequal compute is none of schedules.",
    "Seeds needed: for a difference of this size / for equivalence, at a power of 80% and the spread seen here.",
    ...(identical.length > 0 ? [`Left out, the same weights by construction: ${identical.join("; ")}.`] : []),
  ];
  const table =
    compared.length > 0
      ? tableHtml(columns(comparisonColumns, 2), compared.map(comparisonCells))
      : "<p>Nothing to compare yet.</p>";
  return { title: "Comparisons", body: `${table}\n<p class="faint">${notes.map(escapeHtml).join(" ")}</p>` };
}

function sharingText({ sharing, segments }: StudyPlan): string {
  const { steps, fromScratch, byHand, savedFromScratch, savedByHand } = sharing;
  return `<p>Trained: ${segments.length} segments, ${steps} steps. One run from scratch for each schedule, budget and seed would take ${fromScratch} steps (${percent(savedFromScratch)} saved); each schedule by itself done well ${byHand} (${percent(savedByHand)} saved).</p>`;
}

/** Unique tokens and epochs: a branch reads tokens again that its trunk reads too, a chain does not. */
function dataTable(cells: readonly Cell[]): string {
  const titles = [
    "schedule",
    "axes",
    "budget",
    "tokens of the weights",
    "different tokens",
    "epochs",
    "trained in all",
  ];
  const rows = cells.map(({ schedule, labels, budget, rows: [row] }) => [
    schedule,
    labelText(labels),
    String(budget + 1),
    shortNumber(row!.tokens, 4),
    row!.uniqueTokens === null ? "-" : shortNumber(row!.uniqueTokens, 4),
    row!.epochs === null ? "-" : row!.epochs.toFixed(2),
    shortNumber(row!.cumulativeTokens, 4),
  ]);
  return tableHtml(columns(titles, 2), rows);
}

function tuningSection(tuned: TunedFile): Section {
  const rows = Object.entries(tuned.peaks).flatMap(([key, { peak, interior, grid }]) =>
    grid.map(({ peak: tried, losses }) => [
      key,
      shortNumber(tried),
      losses.map((loss) => (loss === null ? "diverged" : loss.toFixed(4))).join("  "),
      tried === peak ? (interior ? "best" : "best, at the edge") : "",
    ]),
  );
  const note = `Tuned on ${tuned.seeds.length === 1 ? "seed" : "seeds"} ${tuned.seeds.join(", ")} at ${tuned.budget} steps, which took ${tuned.steps} steps of training.`;
  const table = tableHtml(["schedule", { title: "peak", number: true }, "losses by seed", ""], rows);
  return { title: "Tuning", body: `<p>${escapeHtml(note)}</p>\n${table}` };
}

const methodList = (findings: readonly MethodFinding[]): string =>
  `<ul>\n${findings.map(({ ok, text }) => `<li class="${ok ? "yes" : "no"}">${escapeHtml(text)}</li>`).join("\n")}\n</ul>`;

function rowsCsv(rows: readonly ResultRow[]): string {
  const axes = [...new Set(rows.flatMap((row) => [...Object.keys(row.labels), ...Object.keys(row.replicate)]))];
  const fields = [
    "budget",
    "nominal",
    "step",
    "tokens",
    "cumulativeTokens",
    "aloneTokens",
    "uniqueTokens",
    "epochs",
    "peak",
    "lrSum",
    "loss",
    "entropy",
    "controlLoss",
  ] as const;
  return csvText(
    ["schedule", ...axes, ...fields, "state"],
    rows.map((row) => [
      row.schedule,
      ...axes.map((axis) => row.labels[axis] ?? row.replicate[axis] ?? ""),
      ...fields.map((field) => (field === "budget" ? row.budget + 1 : row[field])),
      row.state,
    ]),
  );
}
