import { ConfigError } from "../config/errors.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { uniforms } from "../train/random.ts";

/** One value of an axis. */
export interface Choice {
  readonly label: string;
  /** What $NAME stands for. */
  readonly value: unknown;
  /** Fields of the run that come with it. */
  readonly set: Readonly<Record<string, unknown>>;
}

/** A value for every axis, by the axis' name. */
export type Combination = Readonly<Record<string, Choice>>;

/** Axes whose values repeat an experiment instead of changing it. */
const replicateAxes = ["seed", "data.seed"];
export const isReplicate = (axis: string): boolean => replicateAxes.includes(axis);

type Axes = StudySpec["axes"];
type Listed = Extract<Axes[string], readonly unknown[]>;
type Drawn = Exclude<Axes[string], readonly unknown[]>;

function choiceOf(value: Listed[number]): Choice {
  if (typeof value !== "object" || value === null) return { label: String(value), value, set: {} };
  return { label: value.label, value: value.value ?? value.label, set: value.set ?? {} };
}

function draw(axis: Drawn, u: number): Choice {
  const [low, high] = "uniform" in axis ? axis.uniform : axis.logUniform;
  const value = "uniform" in axis ? low + (high - low) * u : low * (high / low) ** u;
  // Four digits: a label that can be read and typed again.
  const rounded = Number(value.toPrecision(4));
  return { label: String(rounded), value: rounded, set: {} };
}

const isListed = (axis: Axes[string]): axis is Listed => Array.isArray(axis);

/** Axes that step together: index i takes value i of each. */
function groupsOf(names: readonly string[], { axes, combine }: Pick<StudySpec, "axes" | "combine">): string[][] {
  const zipped = combine.zip.flat();
  for (const name of zipped)
    if (!names.includes(name))
      throw new ConfigError(["combine", "zip"], `combine.zip names ${name}, which is no axis with listed values.`);
  for (const group of combine.zip) {
    const lengths = group.map((name) => (axes[name] as Listed).length);
    if (new Set(lengths).size > 1)
      throw new ConfigError(
        ["combine", "zip"],
        `combine.zip: ${group.map((name, i) => `${name} has ${lengths[i]} values`).join(", ")}; expected the same number.`,
      );
  }
  return [...combine.zip, ...names.filter((name) => !zipped.includes(name)).map((name) => [name])];
}

function gridOf(groups: readonly string[][], axes: Axes): Combination[] {
  let all: Combination[] = [{}];
  for (const group of groups) {
    const length = (axes[group[0]!] as Listed).length;
    const parts = Array.from({ length }, (_, i) =>
      Object.fromEntries(group.map((name) => [name, choiceOf((axes[name] as Listed)[i]!)])),
    );
    all = all.flatMap((before) => parts.map((part) => ({ ...before, ...part })));
  }
  return all;
}

/** `count` different combinations of the listed grid and the drawn axes, the same for a seed on every machine. */
function sample(names: readonly string[], spec: Pick<StudySpec, "axes" | "combine">): Combination[] {
  const { seed, count } = spec.combine.random!;
  const uniform = uniforms(seed);
  const listed = names.filter((name) => isListed(spec.axes[name]!));
  const grid = gridOf(groupsOf(listed, spec), spec.axes);
  const drawn = names.filter((name) => !isListed(spec.axes[name]!));
  const chosen: Combination[] = [];
  const left = [...grid];
  while (chosen.length < count) {
    if (left.length === 0) {
      if (drawn.length === 0) break; // the whole grid is taken
      left.push(...grid);
    }
    const [picked] = left.splice(Math.floor(uniform() * left.length), 1);
    const more = drawn.map((name) => [name, draw(spec.axes[name] as Drawn, uniform())] as const);
    chosen.push({ ...picked!, ...Object.fromEntries(more) });
  }
  return chosen;
}

/** The combinations of a study's axes, in the order of the file. @throws BAD_CONFIG when they do not fit together. */
export function combinations(spec: Pick<StudySpec, "axes" | "combine">): Combination[] {
  const names = Object.keys(spec.axes);
  const drawn = names.filter((name) => !isListed(spec.axes[name]!));
  if (drawn.length > 0 && !spec.combine.random)
    throw new ConfigError(["axes", drawn[0]!], `axes.${drawn[0]} is a range; say combine.random: { seed, count }.`);
  const varied = names.filter((name) => !isReplicate(name));
  const chosen = spec.combine.random
    ? sample(varied, spec).flatMap((one) =>
        gridOf(
          names.filter(isReplicate).map((name) => [name]),
          spec.axes,
        ).map((replicate) => ({ ...one, ...replicate })),
      )
    : gridOf(groupsOf(names, spec), spec.axes);
  return [...chosen, ...spec.combine.list.map((one) => listed(one, names, spec.axes))];
}

/** A combination said outright; a label of the axis is taken for its value. */
function listed(one: Readonly<Record<string, unknown>>, names: readonly string[], axes: Axes): Combination {
  for (const name of new Set([...names, ...Object.keys(one)]))
    if (!(name in one) || !names.includes(name))
      throw new ConfigError(
        ["combine", "list"],
        `combine.list: an entry ${name in one ? "names" : "lacks"} ${name}; expected a value for each of ${names.join(", ")}.`,
      );
  return Object.fromEntries(
    names.map((name) => {
      const axis = axes[name]!;
      const known = isListed(axis) ? axis.map(choiceOf).find(({ label }) => label === String(one[name])) : undefined;
      return [name, known ?? { label: String(one[name]), value: one[name], set: {} }];
    }),
  );
}
