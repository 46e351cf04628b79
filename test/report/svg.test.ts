import test from "ava";
import fc from "fast-check";
import { linearTicks, logTicks, makeScale, shortNumber, tickLabels } from "../../ts/report/scale.ts";
import { type Figure, svgFigure } from "../../ts/report/svg.ts";
import { type Point, pathOf, thin } from "../../ts/report/svg_path.ts";
import { checkXml } from "./helpers.ts";

const seed = Date.now() % 2 ** 31;

const figure = (points: readonly Point[], more: Partial<Figure> = {}): Figure => ({
  title: "t",
  xLabel: "step",
  panels: [{ label: "loss", series: [{ name: "a", points }] }],
  ...more,
});

test("a figure is one well-formed element, whatever its texts say", (t) => {
  const nasty = `</svg><script>&"'\u0001`;
  const svg = svgFigure({
    title: nasty,
    subtitle: nasty,
    xLabel: nasty,
    guides: [{ x: 1, label: nasty }],
    panels: [{ label: nasty, series: [{ name: nasty, points: [[0, 1]] }] }],
  });
  t.notThrows(() => checkXml(svg));
  t.false(svg.includes("<script") || svg.includes("\u0001"));
  t.throws(() => checkXml(svg.replace("</svg>", "")), undefined, "the check itself can fail");
});

test("numbers that cannot be shown never reach the figure", (t) => {
  const points: Point[] = [
    [0, 1],
    [1, Number.NaN],
    [2, 3],
    [3, Number.POSITIVE_INFINITY],
    [4, 0],
    [5, -1],
    [6, 2],
  ];
  for (const scale of ["linear", "log"] as const) {
    const svg = svgFigure(figure(points, { panels: [{ label: "y", scale, series: [{ name: "a", points }] }] }));
    t.notThrows(() => checkXml(svg));
    t.notRegex(svg, /NaN|Infinity/);
  }
});

test("a figure of nothing, of one point and of a constant is drawn all the same", (t) => {
  for (const points of [
    [],
    [[3, 2]],
    [
      [0, 5],
      [9, 5],
    ],
  ] as Point[][]) {
    const svg = svgFigure(figure(points));
    t.notThrows(() => checkXml(svg));
    t.notRegex(svg, /NaN|Infinity/);
  }
});

test("a hundred thousand points make a small file that still shows every spike", (t) => {
  const points = Array.from(
    { length: 100_000 },
    (_, i): Point => [i, i === 70_003 ? 9 : 2 + Math.sin(i * 12.9898) * 0.1],
  );
  const svg = svgFigure(
    figure(points, { panels: [{ label: "y", series: [{ name: "a", points }], range: [0, 10], height: 100 }] }),
  );
  t.true(svg.length < 45_000, `${svg.length} bytes`); // 736 columns of at most 4 points of about 11 characters, and the frame
  const curve = /<path d="([^"]+)"/.exec(svg)![1]!;
  const heights = [...curve.matchAll(/,([\d.]+)/g)].map((match) => Number(match[1]));
  t.is(heights.filter((y) => y < Math.min(...heights) + 20).length, 1);
});

test("thinning keeps the first, last, lowest and highest point of every column, in order", (t) => {
  t.log(`seed ${seed}`);
  const sorted = fc.array(
    fc.tuple(fc.double({ min: 0, max: 20, noNaN: true }), fc.double({ min: -5, max: 5, noNaN: true })),
    { minLength: 1 },
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(sorted, (raw) => {
        const points = raw.sort((a, b) => a[0] - b[0]) as Point[];
        const kept = thin(points);
        const order = kept.map((point) => points.indexOf(point));
        if (order.some((index, i) => i > 0 && index <= order[i - 1]!)) throw new Error("order changed");
        for (let column = 0; column <= 20; column++) {
          const all = points.filter(([x]) => Math.floor(x) === column).map(([, y]) => y);
          const left = kept.filter(([x]) => Math.floor(x) === column).map(([, y]) => y);
          if (left.length > 4) throw new Error(`${left.length} points in a column`);
          if (all.length > 0 && (Math.min(...all) !== Math.min(...left) || Math.max(...all) !== Math.max(...left)))
            throw new Error("an extreme is gone");
        }
      }),
      { seed },
    ),
  );
});

test("a path breaks where a value is missing, and straight stretches cost two points", (t) => {
  t.is(
    pathOf([
      [0, 0],
      [10, 10],
      [20, 20],
      [30, Number.NaN],
      [40, 5],
      [50, 5],
    ]),
    "M0,0L20,20M40,5L50,5",
  );
  t.is(pathOf([[1, 2]]), "M1,2h0.1");
});

test("labels of guides never touch each other", (t) => {
  t.log(`seed ${seed}`);
  const places = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 12 });
  t.notThrows(() =>
    fc.assert(
      fc.property(places, (xs) => {
        const guides = xs.map((x, i) => ({ x, label: `budget ${i}: ${x}` }));
        const svg = svgFigure(
          figure(
            [
              [0, 0],
              [1000, 1],
            ],
            { guides },
          ),
        );
        const boxes = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)" font-size="11"[^>]*>([^<]*)</g)].map(
          (match) => ({
            x: Number(match[1]),
            y: Number(match[2]),
            half: (match[3]!.length * 11 * 0.58) / 2,
          }),
        );
        if (boxes.length !== xs.length) throw new Error(`${boxes.length} labels`);
        for (const [i, a] of boxes.entries()) {
          if (a.x - a.half < 63 || a.x + a.half > 801) throw new Error("a label leaves the plot");
          for (const b of boxes.slice(0, i))
            if (Math.abs(a.y - b.y) < 11 && Math.abs(a.x - b.x) < a.half + b.half) throw new Error("labels overlap");
        }
      }),
      { seed },
    ),
  );
});

test("panels share the x axis: it is labelled once, under the last", (t) => {
  const series = [
    {
      name: "a",
      points: [
        [0, 1],
        [100, 2],
      ] as Point[],
    },
  ];
  const svg = svgFigure(
    figure([], {
      panels: [
        { label: "up", series },
        { label: "down", series },
      ],
    }),
  );
  t.is(svg.match(/>step</g)?.length, 1);
  t.is(svg.match(/>100</g)?.length, 1);
});

test("linear ticks are round, inside the axis, and about as many as asked for", (t) => {
  t.deepEqual(linearTicks([0, 1290], 8), [0, 200, 400, 600, 800, 1000, 1200]);
  t.deepEqual(linearTicks([0, 4e-3], 5), [0, 0.001, 0.002, 0.003, 0.004]);
  t.deepEqual(linearTicks([-0.3, 0.3], 4), [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]);
  t.log(`seed ${seed}`);
  // Axes up to a million times farther from 0 than they are wide; beyond that the digits of a double run out.
  const bounds = fc
    .tuple(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.double({ min: 1e-6, max: 1e6, noNaN: true }))
    .map(([factor, width]) => [factor * width, width] as const);
  t.notThrows(() =>
    fc.assert(
      fc.property(bounds, fc.integer({ min: 2, max: 12 }), ([low, width], count) => {
        const ticks = linearTicks([low, low + width], count);
        if (ticks.length > 1.5 * count + 1 || ticks.length < Math.floor(count / 3))
          throw new Error(`${ticks.length} ticks`);
        const slack = width * 1e-6;
        if (ticks.some((tick) => tick < low - slack || tick > low + width + slack)) throw new Error("tick outside");
      }),
      { seed },
    ),
  );
});

test("logarithmic ticks are powers of ten, with 2 and 5 on short axes", (t) => {
  t.deepEqual(logTicks([1e-6, 1], 4), [1e-6, 1e-4, 1e-2, 1]);
  t.deepEqual(logTicks([1, 100], 6), [1, 2, 5, 10, 20, 50, 100]);
  t.is(makeScale("log", [1, 100], [0, 10]).at(10), 5);
  t.true(Number.isNaN(makeScale("log", [1, 100], [0, 10]).at(0)));
});

test("numbers are short and readable", (t) => {
  t.deepEqual(
    [0, 1290, 53750, 4194304, 0.004, 6.004e-5, 1.7293].map((value) => shortNumber(value)),
    ["0", "1290", "53.8k", "4.19M", "4e-3", "6e-5", "1.73"],
  );
  t.deepEqual(tickLabels([1.6, 1.8, 2]), ["1.6", "1.8", "2.0"]);
  t.deepEqual(tickLabels([0, 20000]), ["0", "20k"]);
});

test("a slow bend is drawn within a sixth of a pixel of every point", (t) => {
  const points = Array.from({ length: 2000 }, (_, i): Point => [i / 3, 100 * Math.cos(i / 640)]);
  const drawn = [...pathOf(points).matchAll(/[ML](-?[\d.]+),(-?[\d.]+)/g)].map(
    (m): Point => [Number(m[1]), Number(m[2])],
  );
  t.true(drawn.length < 200, `${drawn.length} points`);
  for (const [x, y] of points) {
    const next = drawn.findIndex((p) => p[0] >= x);
    const k = next < 0 ? drawn.length - 1 : Math.max(1, next);
    const [[x0, y0], [x1, y1]] = [drawn[k - 1]!, drawn[k]!];
    const at = y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
    // 0.05 of the straightening, 0.05 of rounding to tenths, twice where both ends are rounded.
    t.true(Math.abs(at - y) < 0.16, `at ${x}: ${at}, ${y}`);
  }
});
