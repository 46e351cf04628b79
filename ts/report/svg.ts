import { makeScale, type Scale, tickLabels } from "./scale.ts";
import { type Point, pathOf } from "./svg_path.ts";

export type { Point } from "./svg_path.ts";

export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
  readonly color?: string;
  /** line (default), dashed, or dots, one at each point. */
  readonly style?: "line" | "dashed" | "dots";
  /** Vertical bars with caps: x, lower and upper end. */
  readonly intervals?: readonly (readonly [x: number, low: number, high: number])[];
  readonly width?: number;
  readonly opacity?: number;
  /** Left out of the legend when false. */
  readonly legend?: boolean;
}

export interface Panel {
  readonly label: string;
  readonly series: readonly Series[];
  readonly scale?: "linear" | "log";
  /** Shown values; what lies outside is cut off. Default: all of them. */
  readonly range?: readonly [number, number];
  /** Height of the plot area in pixels. Default 220. */
  readonly height?: number;
}

export interface Figure {
  readonly title: string;
  readonly subtitle?: string;
  readonly xLabel: string;
  readonly xScale?: "linear" | "log";
  /** Drawn under one another over the same x axis. */
  readonly panels: readonly Panel[];
  /** Dashed vertical lines through all panels, labelled above the first. */
  readonly guides?: readonly { readonly x: number; readonly label?: string }[];
  /** Shaded stretches of the x axis through all panels. */
  readonly bands?: readonly { readonly from: number; readonly to: number }[];
  /** Shown stretch of the x axis. Default: all points. */
  readonly xRange?: readonly [number, number];
  /** Whole width in pixels. Default 820. */
  readonly width?: number;
}

/** Told apart by readers with any colour vision, and in print. */
export const palette = ["#1f6fb4", "#c8553d", "#2a9d6f", "#8a63b8", "#d98f0b", "#5b6472"] as const;

const ink = "#1d2430";
const faint = "#5b6472";
const margin = { left: 64, right: 20 };
/** Average width of a character in ems, on the wide side, since the reader's font is not known. */
const characterWidth = 0.58;
const textWidth = (text: string, size: number): number => text.length * size * characterWidth;

/** Coordinates with one decimal: a tenth of a pixel. */
const px = (value: number): string => String(Math.round(value * 10) / 10);

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
// biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 cannot hold these characters at all
const unwritable = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const xml = (text: string): string => text.replace(unwritable, "").replace(/[&<>"]/g, (c) => escapes[c]!);

function text(
  x: number,
  y: number,
  content: string,
  options: { size?: number; color?: string; anchor?: string; bold?: boolean } = {},
): string {
  const { size = 12, color = faint, anchor = "start", bold = false } = options;
  const weight = bold ? ' font-weight="600"' : "";
  return `<text x="${px(x)}" y="${px(y)}" font-size="${size}" fill="${color}" text-anchor="${anchor}"${weight}>${xml(content)}</text>`;
}

const line = (x1: number, y1: number, x2: number, y2: number, attributes: string): string =>
  `<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" ${attributes}/>`;

/** Smallest and largest of all finite values; [0, 1] when there are none. Positive ones only for a logarithmic axis. */
function extent(values: Iterable<number>, log: boolean): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

function* coordinates(panels: readonly Panel[], axis: 0 | 1): Generator<number> {
  for (const { points, intervals = [] } of panels.flatMap((panel) => panel.series)) {
    for (const point of points) yield point[axis];
    if (axis === 1) for (const [, low, high] of intervals) yield* [low, high];
  }
}

function* concat<T>(...all: Iterable<T>[]): Generator<T> {
  for (const each of all) yield* each;
}

/** Labels of the guides in as few rows as they fit in without touching; each label is centred on its guide where it can be. */
function placeLabels(
  guides: NonNullable<Figure["guides"]>,
  x: Scale,
  right: number,
): { content: string; x: number; row: number }[] {
  const ends: number[] = [];
  const labelled = guides.filter((guide) => guide.label).sort((a, b) => a.x - b.x);
  return labelled.map(({ x: at, label }) => {
    const half = textWidth(label!, 11) / 2;
    const center = Math.min(Math.max(x.at(at), margin.left + half), right - half);
    let row = ends.findIndex((end) => end + 8 <= center - half);
    if (row < 0) row = ends.length;
    ends[row] = center + half;
    return { content: label!, x: center, row };
  });
}

interface Frame {
  readonly x: Scale;
  readonly left: number;
  readonly right: number;
}

/** The entries of a panel's legend, right-aligned in rows that leave room for the panel's label. */
function legend(
  panel: Panel,
  colors: readonly string[],
  { left, right }: Frame,
  top: number,
): { svg: string; rows: number } {
  const entries = panel.series
    .map((series, i) => ({ series, color: colors[i]!, width: 22 + textWidth(series.name, 12) + 14 }))
    .filter(({ series }) => series.legend !== false && series.name !== "");
  const room = right - left;
  const rows: (typeof entries)[] = [];
  let free = 0;
  for (const entry of entries) {
    if (rows.length === 0 || entry.width > free) {
      // The panel's label stands on the first row.
      free = room - (rows.length === 0 ? textWidth(panel.label, 13) + 24 : 0);
      rows.push([]);
    }
    rows.at(-1)!.push(entry);
    free -= entry.width;
  }
  const parts: string[] = [];
  for (const [row, items] of rows.entries()) {
    let x = right - items.reduce((sum, item) => sum + item.width, 0) + 14;
    const y = top + row * 17;
    for (const { series, color, width } of items) {
      parts.push(
        series.style === "dots"
          ? `<circle cx="${px(x + 8)}" cy="${px(y - 4)}" r="3.5" fill="${color}"/>`
          : line(
              x,
              y - 4,
              x + 16,
              y - 4,
              `stroke="${color}" stroke-width="2.5"${series.style === "dashed" ? ' stroke-dasharray="5 3"' : ""}`,
            ),
        text(x + 22, y, series.name, { color: ink }),
      );
      x += width;
    }
  }
  return { svg: parts.join(""), rows: Math.max(1, rows.length) };
}

/** An interval as a bar with caps; nothing when it has no height. */
function errorBar([at, low, high]: readonly [number, number, number], color: string, x: Scale, y: Scale): string {
  const [a, bottom, top] = [x.at(at), y.at(low), y.at(high)];
  if (![a, bottom, top].every(Number.isFinite) || low === high) return "";
  const d = `M${px(a - 4)},${px(top)}H${px(a + 4)}M${px(a)},${px(top)}V${px(bottom)}M${px(a - 4)},${px(bottom)}H${px(a + 4)}`;
  return `<path d="${d}" fill="none" stroke="${color}" stroke-width="1.3"/>`;
}

function drawSeries(series: Series, color: string, x: Scale, y: Scale): string {
  const at = series.points.map(([a, b]): Point => [x.at(a), y.at(b)]);
  const opacity = series.opacity === undefined ? "" : ` opacity="${series.opacity}"`;
  const bars = (series.intervals ?? []).map((interval) => errorBar(interval, color, x, y)).join("");
  if (series.style === "dots")
    return (
      bars +
      at
        .filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b))
        .map(([a, b]) => `<circle cx="${px(a)}" cy="${px(b)}" r="${series.width ?? 3.5}" fill="${color}"${opacity}/>`)
        .join("")
    );
  const dash = series.style === "dashed" ? ' stroke-dasharray="5 3"' : "";
  return `${bars}<path d="${pathOf(at)}" fill="none" stroke="${color}" stroke-width="${series.width ?? 1.8}" stroke-linejoin="round"${dash}${opacity}/>`;
}

/** One panel's plot area: shading, grid, guides, curves, frame. */
function plot(
  figure: Figure,
  panel: Panel,
  colors: readonly string[],
  frame: Frame,
  top: number,
  index: number,
): string {
  const { x, left, right } = frame;
  const bottom = top + (panel.height ?? 220);
  const log = panel.scale === "log";
  const [low, high] = panel.range ?? extent(coordinates([panel], 1), log);
  const slack = log || panel.range ? 0 : (high - low) * 0.04;
  const y = makeScale(
    log ? "log" : "linear",
    [low >= 0 && low - slack < 0 ? 0 : low - slack, high + slack],
    [bottom, top],
  );
  // Several figures may stand in one page, which has one set of names.
  const clip = `clip-${figure.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}-${index}`;
  const parts = [
    `<clipPath id="${clip}"><rect x="${left}" y="${px(top - 3)}" width="${right - left}" height="${px(bottom - top + 6)}"/></clipPath>`,
  ];
  for (const { from, to } of figure.bands ?? []) {
    const [a, b] = [Math.max(left, x.at(from)), Math.min(right, x.at(to))];
    if (b > a)
      parts.push(
        `<rect x="${px(a)}" y="${px(top)}" width="${px(b - a)}" height="${px(bottom - top)}" fill="#f1e7d3"/>`,
      );
  }
  const ticks = y.ticks(Math.max(3, Math.floor((bottom - top) / 42)));
  const labels = tickLabels(ticks);
  for (const [i, tick] of ticks.entries())
    parts.push(
      line(left, y.at(tick), right, y.at(tick), 'stroke="#e4e7ec"'),
      text(left - 8, y.at(tick) + 4, labels[i]!, { anchor: "end" }),
    );
  for (const guide of figure.guides ?? [])
    parts.push(line(x.at(guide.x), top, x.at(guide.x), bottom, 'stroke="#8a93a3" stroke-dasharray="3 3"'));
  parts.push(`<g clip-path="url(#${clip})">`);
  for (const [i, series] of panel.series.entries()) parts.push(drawSeries(series, colors[i]!, x, y));
  parts.push("</g>", line(left, bottom, right, bottom, 'stroke="#8a93a3"'));
  return parts.join("");
}

/**
 * A line chart as SVG text: panels over a shared x axis, each with its own y axis and legend. No dependency, no script, no
 * outside resource; long series are thinned to what the pixels can show, keeping every extreme.
 */
export function svgFigure(figure: Figure): string {
  const width = figure.width ?? 820;
  const [left, right] = [margin.left, width - margin.right];
  const guideXs = (figure.guides ?? []).map((guide) => guide.x);
  const [first, last] = extent(concat(coordinates(figure.panels, 0), guideXs), figure.xScale === "log");
  // Counts that start at 1 read better from 0.
  const all = [figure.xScale !== "log" && first > 0 && first < last / 20 ? 0 : first, last] as const;
  const domain = figure.xRange ?? all;
  const frame: Frame = { x: makeScale(figure.xScale ?? "linear", domain, [left, right]), left, right };
  const parts: string[] = [text(left, 28, figure.title, { size: 17, color: ink, bold: true })];
  let top = 28;
  if (figure.subtitle) parts.push(text(left, (top += 20), figure.subtitle, { size: 12 }));
  const guideLabels = placeLabels(figure.guides ?? [], frame.x, right);
  const guideRows = Math.max(0, ...guideLabels.map((label) => label.row + 1));
  let next = 0;
  for (const [index, panel] of figure.panels.entries()) {
    // The same name has the same colour in every panel.
    const names = figure.panels.flatMap((each) => each.series.map((series) => series.name));
    const colors = panel.series.map(
      (series) =>
        series.color ?? palette[(series.name ? [...new Set(names)].indexOf(series.name) : next++) % palette.length]!,
    );
    top += index === 0 ? 26 : 34;
    const drawn = legend(panel, colors, frame, top);
    parts.push(text(left, top, panel.label, { size: 13, color: ink, bold: true }), drawn.svg);
    top += (drawn.rows - 1) * 17 + 12;
    if (index === 0 && guideRows > 0) {
      for (const label of guideLabels)
        parts.push(
          text(label.x, top + 6 + (guideRows - 1 - label.row) * 14, label.content, { size: 11, anchor: "middle" }),
        );
      top += guideRows * 14;
    }
    parts.push(plot(figure, panel, colors, frame, top, index));
    top += panel.height ?? 220;
  }
  const ticks = frame.x.ticks(Math.floor((right - left) / 90));
  const labels = tickLabels(ticks);
  for (const [i, tick] of ticks.entries())
    parts.push(
      line(frame.x.at(tick), top, frame.x.at(tick), top + 5, 'stroke="#8a93a3"'),
      text(frame.x.at(tick), top + 19, labels[i]!, { anchor: "middle" }),
    );
  parts.push(text((left + right) / 2, top + 40, figure.xLabel, { size: 12, anchor: "middle", color: ink }));
  const height = top + 54;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif" role="img">` +
    `<title>${xml(figure.title)}</title><rect width="${width}" height="${height}" fill="#fff"/>${parts.join("\n")}</svg>\n`
  );
}
