import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import test from "ava";

const root = join(import.meta.dirname, "..");

/** Lowest first: a floor may import from itself and from floors before it. */
const floors = [
  "base",
  "native",
  "engine",
  "config",
  "schedule",
  "data",
  "graph",
  "model",
  "optim",
  "train",
  "study",
  "report",
  "cli",
];
/** What the order alone would allow, but the contracts do not. */
const forbidden: Record<string, string[]> = {
  data: ["engine"],
  schedule: ["engine", "native"],
  config: ["engine", "native"],
};

function filesUnder(dir: string, pattern: RegExp): string[] {
  return readdirSync(join(root, dir), { recursive: true, encoding: "utf8" })
    .filter((f) => pattern.test(f))
    .map((f) => join(dir, f));
}

test("imports point downward only, in TypeScript", (t) => {
  for (const file of filesUnder("ts", /\.ts$/)) {
    const floor = file.split("/")[1]!;
    if (floor.endsWith(".ts")) continue; // ts/index.ts: the public face
    const from = floors.indexOf(floor);
    t.true(from >= 0, `${file} stands on no known floor`);
    for (const [, target] of readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)) {
      const to = relative(join(root, "ts"), resolve(root, dirname(file), target!)).split("/")[0]!;
      if (to.startsWith("..")) continue;
      t.true(floors.indexOf(to) <= from, `${file} imports ${target}: ${floor} may not reach up to ${to}`);
      t.false(forbidden[floor]?.includes(to) ?? false, `${file} imports ${target}: ${floor} knows nothing of ${to}`);
    }
  }
});

/** A circle in a graph of files, as the files on it in order; null when there is none. */
function circleOf(imports: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    path.push(file);
    for (const next of imports.get(file) ?? []) {
      const circle = visit(next);
      if (circle) return circle;
    }
    path.pop();
    done.add(file);
    return null;
  };
  for (const file of imports.keys()) {
    const circle = visit(file);
    if (circle) return circle;
  }
  return null;
}

test("no circle of imports between modules, those of types included", (t) => {
  const importsOf = (file: string) =>
    [...readFileSync(join(root, file), "utf8").matchAll(/\bfrom "(\.[^"]+)"/g)].map(([, target]) =>
      relative(root, resolve(root, dirname(file), target!)),
    );
  t.is(
    circleOf(new Map(filesUnder("ts", /\.ts$/).map((file) => [file, importsOf(file)])))?.join(" imports "),
    undefined,
  );
  const planted = new Map([
    ["a", ["b", "c"]],
    ["b", []],
    ["c", ["d"]],
    ["d", ["b", "c"]],
  ]);
  t.deepEqual(circleOf(planted), ["c", "d", "c"]);
});

test("includes point downward only, in C++", (t) => {
  const order = ["base", "ops", "text", "simt", "emulator", "cpu", "cuda", "engine", "binding"];
  // The engine owns the Backend interface and the backends implement it: and what Programs say may be seen from below.
  const allowed = new Set(["native/engine/backend.h", "native/engine/program.h", "native/engine/parameters.h"]);
  for (const file of filesUnder("native", /\.(h|cpp|cuh?)$/)) {
    const from = order.indexOf(file.split("/")[1]!);
    t.true(from >= 0, `${file} stands on no known floor`);
    for (const [, target] of readFileSync(join(root, file), "utf8").matchAll(/#include "(native\/[^"]+)"/g)) {
      const to = order.indexOf(target!.split("/")[1]!);
      t.true(to <= from || allowed.has(target!), `${file} includes ${target}`);
    }
  }
});

test("files stay small enough to have one job", (t) => {
  const sources = [...filesUnder("ts", /\.ts$/), ...filesUnder("native", /\.(h|cpp|cuh?)$/)];
  for (const file of sources) {
    if (/^native\/ops\/(?!command)/.test(file)) continue; // generated
    const lines = readFileSync(join(root, file), "utf8").split("\n").length;
    t.true(lines <= 450, `${file} has ${lines} lines`);
  }
});
