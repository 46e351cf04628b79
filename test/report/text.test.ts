import test from "ava";
import { csvText } from "../../ts/report/csv.ts";
import type { Point } from "../../ts/report/svg_path.ts";
import { formatTable, markdownTable } from "../../ts/report/table.ts";
import { terminalPlot } from "../../ts/report/terminal.ts";

test("tables align numbers at the right and leave no trailing spaces", (t) => {
  const text = formatTable(["run", { title: "loss", align: "right" }], [["a", "1.5"], ["longer", "10.25"], ["x"]]);
  t.is(text, ["run      loss", "------  -----", "a         1.5", "longer  10.25", "x"].join("\n"));
});

test("a row with more cells than columns is an error, not a crooked table", (t) => {
  t.throws(() => formatTable(["a"], [["1", "2"]]), { instanceOf: RangeError });
});

test("Markdown tables escape the bar", (t) => {
  t.is(markdownTable(["a", { title: "n", align: "right" }], [["x|y", "1"]]), "| a | n |\n|---|---:|\n| x\\|y | 1 |");
});

test("CSV quotes what needs it and keeps every digit of a number", (t) => {
  t.is(
    csvText(
      ["a", "b"],
      [
        ['say "hi", please', 0.1 + 0.2],
        ["two\nlines", null],
      ],
    ),
    'a,b\n"say ""hi"", please",0.30000000000000004\n"two\nlines",\n',
  );
});

test("a terminal plot keeps within its width and height", (t) => {
  const points = Array.from({ length: 500 }, (_, i): Point => [i, Math.sin(i / 40)]);
  for (const [width, height] of [
    [40, 8],
    [78, 16],
    [120, 30],
  ] as const) {
    const lines = terminalPlot(points, { width, height, title: "sine" }).split("\n");
    t.is(lines.length, height);
    for (const line of lines) t.true([...line].length <= width, line);
  }
});

test("a rising line is drawn from the lower left to the upper right", (t) => {
  const rows = terminalPlot(
    [
      [0, 0],
      [10, 10],
    ],
    { width: 30, height: 12 },
  )
    .split("\n")
    .slice(0, 10);
  const first = rows.map((row) => [...row].findIndex((c) => c > "\u2800" && c <= "\u28ff"));
  t.true(first.every((column) => column >= 0));
  for (let i = 1; i < first.length; i++) t.true(first[i]! <= first[i - 1]!);
});

test("a plot of nothing says so, and gaps break the line", (t) => {
  t.regex(terminalPlot([], { title: "loss" }), /nothing to draw/);
  const gap = terminalPlot(
    [
      [0, 1],
      [1, Number.NaN],
      [10, 1],
    ],
    { width: 30, height: 8, range: [0, 2] },
  );
  const drawn = [...gap].filter((c) => c > "\u2800" && c <= "\u28ff").length;
  t.is(drawn, 2);
});
