import { makeScale, tickLabels } from "./scale.ts";
import type { Point } from "./svg_path.ts";

export interface TerminalPlot {
  /** Columns and rows of the whole drawing, labels included. Default 78 by 16. */
  readonly width?: number;
  readonly height?: number;
  readonly title?: string;
  readonly xLabel?: string;
  readonly scale?: "linear" | "log";
  readonly range?: readonly [number, number];
}

/** Bits of the eight dots of a braille character, by row and column of the dot. */
const dots = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;

/** A grid of braille characters, two dots wide and four high each. */
class Canvas {
  readonly #cells: Uint8Array;
  readonly columns: number;
  readonly rows: number;

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
    this.#cells = new Uint8Array(columns * rows);
  }

  dot(x: number, y: number): void {
    if (x < 0 || y < 0 || x >= this.columns * 2 || y >= this.rows * 4) return;
    this.#cells[(y >> 2) * this.columns + (x >> 1)]! |= dots[y & 3]![x & 1]!;
  }

  /** Dots along a straight line between two dots, ends included. */
  line(x0: number, y0: number, x1: number, y1: number): void {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let i = 0; i <= steps; i++)
      this.dot(Math.round(x0 + ((x1 - x0) * i) / steps), Math.round(y0 + ((y1 - y0) * i) / steps));
  }

  row(index: number): string {
    const cells = this.#cells.subarray(index * this.columns, (index + 1) * this.columns);
    return Array.from(cells, (bits) => String.fromCodePoint(0x2800 + bits)).join("");
  }
}

/** A curve drawn with braille dots, with labelled axes; points with a coordinate that is not finite break it. */
export function terminalPlot(points: readonly Point[], options: TerminalPlot = {}): string {
  const { width = 78, height = 16, title, xLabel } = options;
  const finite = points.filter(
    ([x, y]) => Number.isFinite(x) && Number.isFinite(y) && !(options.scale === "log" && y <= 0),
  );
  if (finite.length === 0) return `${title ? `${title}\n` : ""}(nothing to draw)`;
  const rows = Math.max(3, height - (title ? 1 : 0) - 2);
  const [low, high] = options.range ?? spanOf(finite, 1);
  const y = makeScale(options.scale ?? "linear", [low, high], [rows * 4 - 1, 0]);
  const ticks = y.ticks(Math.max(3, Math.floor(rows / 2.5)));
  const labels = tickLabels(ticks);
  const gutter = Math.max(...labels.map((label) => label.length)) + 1;
  const canvas = new Canvas(Math.max(10, width - gutter - 1), rows);
  const x = makeScale("linear", spanOf(finite, 0), [0, canvas.columns * 2 - 1]);

  let before: [number, number] | undefined;
  for (const point of points) {
    const [a, b] = [Math.round(x.at(point[0])), Math.round(y.at(point[1]))];
    if (!Number.isFinite(a) || !Number.isFinite(b)) before = undefined;
    else {
      canvas.line(before?.[0] ?? a, before?.[1] ?? b, a, b);
      before = [a, b];
    }
  }

  const lines = title ? [title] : [];
  const tickRows = new Map(ticks.map((tick, i) => [Math.floor(y.at(tick) / 4), labels[i]!]));
  for (let row = 0; row < rows; row++) {
    const label = tickRows.get(row);
    lines.push(`${(label ?? "").padStart(gutter - 1)} ${label === undefined ? "│" : "┤"}${canvas.row(row)}`);
  }
  lines.push(...xAxis(x, canvas.columns, gutter, xLabel));
  return lines.map((text) => text.trimEnd()).join("\n");
}

/** The axis line with its marks, and the labels under them. */
function xAxis(x: ReturnType<typeof makeScale>, columns: number, gutter: number, xLabel?: string): string[] {
  const axis = Array.from({ length: columns }, () => "─");
  const under = Array.from({ length: columns + gutter + 8 }, () => " ");
  const ticks = x.ticks(Math.max(2, Math.floor(columns / 10)));
  let free = 0;
  for (const [i, label] of tickLabels(ticks).entries()) {
    const column = Math.min(columns - 1, Math.floor(x.at(ticks[i]!) / 2));
    const start = Math.max(0, gutter + 1 + column - (label.length >> 1));
    if (start < free) continue;
    axis[column] = "┬";
    for (const [k, character] of [...label].entries()) under[start + k] = character;
    free = start + label.length + 1;
  }
  const end = under.join("").trimEnd();
  return [`${" ".repeat(gutter)}└${axis.join("")}`, xLabel ? `${end}  ${xLabel}` : end];
}

function spanOf(points: readonly Point[], axis: 0 | 1): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const point of points) {
    low = Math.min(low, point[axis]);
    high = Math.max(high, point[axis]);
  }
  return [low, high];
}
