const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
export const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (c) => escapes[c]!);

/** A part of a page: a heading and what stands under it, as HTML. */
export interface Section {
  readonly title: string;
  readonly body: string;
}

const style = `
:root { color-scheme: light; --ink: #1d2430; --faint: #5b6472; --line: #e4e7ec; --accent: #1f6fb4; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 980px; padding: 32px 20px 64px; color: var(--ink); background: #fff;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 40px 0 10px; }
p { margin: 0 0 12px; max-width: 72ch; }
.faint, figcaption, caption { color: var(--faint); }
.badge { display: inline-block; padding: 1px 9px; border: 1px solid currentColor; border-radius: 10px; font-size: 13px; }
.badge.demonstration { color: #9a5b00; } .badge.claim { color: #17724f; }
figure { margin: 0 0 20px; } figure svg { width: 100%; height: auto; }
figcaption { font-size: 13.5px; max-width: 80ch; }
.scroll { overflow-x: auto; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 4px 14px 4px 0; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.n, th.n { text-align: right; }
ul { padding-left: 20px; margin: 0 0 12px; } li.no::marker { content: "✗ "; color: #b3261e; } li.yes::marker { content: "✓ "; color: #17724f; }
a { color: var(--accent); }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; } }
`;

/** One HTML file that needs nothing else: no script, no network, no font. */
export function htmlPage(title: string, head: string, sections: readonly Section[]): string {
  const parts = sections.map(
    ({ title: heading, body }) => `<section>\n<h2>${escapeHtml(heading)}</h2>\n${body}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
${head}
${parts.join("\n")}
</body>
</html>
`;
}

/** A drawing with its caption, which may hold HTML. */
export const figureHtml = (svg: string, caption = ""): string =>
  `<figure>\n${svg.trim()}\n${caption ? `<figcaption>${caption}</figcaption>\n` : ""}</figure>`;

/** A column: its title, and whether it holds numbers. */
export type HtmlColumn = string | { readonly title: string; readonly number: true };

/** A table; columns that are empty in every row are left out. */
export function tableHtml(allColumns: readonly HtmlColumn[], allRows: readonly (readonly string[])[]): string {
  const filled = allColumns.map((_, i) => allRows.length === 0 || allRows.some((row) => row[i] !== ""));
  const columns = allColumns.filter((_, i) => filled[i]);
  const rows = allRows.map((row) => row.filter((_, i) => filled[i]));
  const cell = (tag: "th" | "td") => (text: string, i: number) =>
    `<${tag}${typeof columns[i] === "string" ? "" : ' class="n"'}>${escapeHtml(text)}</${tag}>`;
  const titles = columns.map((column) => (typeof column === "string" ? column : column.title));
  const line = (cells: readonly string[], tag: "th" | "td") => `<tr>${cells.map(cell(tag)).join("")}</tr>`;
  const body = rows.map((row) => line(row, "td")).join("\n");
  return `<div class="scroll"><table>\n<thead>${line(titles, "th")}</thead>\n<tbody>\n${body}\n</tbody>\n</table></div>`;
}

/** A link that carries its file within it. */
export const downloadLink = (name: string, type: string, content: string): string =>
  `<a download="${escapeHtml(name)}" href="data:${type};base64,${Buffer.from(content).toString("base64")}">${escapeHtml(name)}</a>`;
