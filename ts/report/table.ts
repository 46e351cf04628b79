export interface Column {
  readonly title: string;
  /** Numbers read best at the right, words at the left. Default left. */
  readonly align?: "left" | "right";
}

/** A text table: columns two spaces apart, a rule under the titles, no trailing spaces. Cells beyond the columns are an error. */
export function formatTable(titles: readonly (Column | string)[], rows: readonly (readonly string[])[]): string {
  const columns = titles.map(columnOf);
  const widths = columns.map((column, c) =>
    Math.max(columnWidth(column.title), ...rows.map((row) => columnWidth(row[c] ?? ""))),
  );
  const format = (cells: readonly string[]): string => {
    if (cells.length > columns.length) throw new RangeError(`${cells.length} cells for ${columns.length} columns`);
    const padded = columns.map((column, c) => {
      const cell = cells[c] ?? "";
      const space = " ".repeat(widths[c]! - columnWidth(cell));
      return column.align === "right" ? space + cell : cell + space;
    });
    return padded.join("  ").trimEnd();
  };
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [format(columns.map((column) => column.title)), rule, ...rows.map(format)].join("\n");
}

/** The same as a Markdown table. */
export function markdownTable(titles: readonly (Column | string)[], rows: readonly (readonly string[])[]): string {
  const columns = titles.map(columnOf);
  const format = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = `|${columns.map((column) => (column.align === "right" ? "---:" : "---")).join("|")}|`;
  return [format(columns.map((column) => column.title)), rule, ...rows.map(format)].join("\n");
}

/** A title alone is a column aligned at the left. */
const columnOf = (column: Column | string): Column => (typeof column === "string" ? { title: column } : column);

const columnWidth = (text: string): number => [...text].length;
