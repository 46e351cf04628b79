import { createHash, type Hash } from "node:crypto";
import { canonicalJson } from "../config/canonical.ts";
import type { RunConfig } from "../config/schema.ts";
import type { StudyRun } from "./expand.ts";
import { groupBy } from "./group.ts";

/** Steps (from, to] trained once for every run that passes through them. */
export interface Segment {
  /** Identity of the weights and optimizer state at its end: everything that decides their bits. */
  readonly id: string;
  /** The segment it goes on from; null at step 0. */
  readonly parent: string | null;
  readonly from: number;
  readonly to: number;
  /** Index of its group: one model, batch, optimizer, seed and data. */
  readonly group: number;
  /** The runs (by index) that pass through it; the first one's configuration trains it. */
  readonly runs: readonly number[];
}

/** Segments in an order in which each parent comes before its children, and each run's way through them. */
export interface SegmentTree {
  readonly segments: readonly Segment[];
  /** For each run, the ids of its segments from step 0 on. */
  readonly paths: readonly (readonly string[])[];
}

/** What a run is beside its schedule: runs of equal identity and equal values have equal bits. */
export interface RunIdentity {
  readonly run: StudyRun;
  readonly identity: unknown;
}

/** Scalars that change over a run, at each update: what a segment is known by. */
export function realisedValues({ plan, end }: Pick<StudyRun, "plan" | "end">): Float64Array {
  return Float64Array.from({ length: end }, (_, step) => plan.valueAt(step));
}

interface Member {
  readonly index: number;
  readonly values: Float64Array;
  readonly marks: readonly number[];
}

const bytesOf = (values: Float64Array, from: number, to: number): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset + 8 * from, 8 * (to - from));

/** Lays runs over one another: equal beginnings become one segment, up to where values part or a run wants weights. */
export function buildTree(runs: readonly RunIdentity[]): SegmentTree {
  const groups = new Map<string, Member[]>();
  for (const [index, { run, identity }] of runs.entries()) {
    const key = canonicalJson(identity);
    const members = groups.get(key) ?? [];
    members.push({ index, values: realisedValues(run), marks: run.marks });
    groups.set(key, members);
  }
  const segments: Segment[] = [];
  const paths: string[][] = runs.map(() => []);
  for (const [group, [identity, members]] of [...groups].entries()) {
    const hash = createHash("sha256").update(identity).update("\n");
    grow({ segments, paths, group }, members, 0, null, hash);
  }
  return { segments, paths };
}

interface Growing {
  readonly segments: Segment[];
  readonly paths: string[][];
  readonly group: number;
}

function grow(tree: Growing, members: readonly Member[], from: number, parent: string | null, hash: Hash): void {
  const going = members.filter((m) => m.values.length > from);
  for (const same of groupBy(going, ({ values }) => beginning(values, from)).values()) {
    const to = commonEnd(same, from);
    const next = hash.copy().update(bytesOf(same[0]!.values, from, to));
    const id = next.copy().digest("hex").slice(0, 16);
    tree.segments.push({ id, parent, from, to, group: tree.group, runs: same.map((m) => m.index) });
    for (const member of same) tree.paths[member.index]!.push(id);
    grow(tree, same, to, id, next);
  }
}

/** What runs must agree in to go on together: the next value; after a value of 0 (a warm-up's first) also the one after. */
const beginning = (values: Float64Array, from: number): string =>
  values[from] === 0 ? `0 ${values[from + 1]}` : String(values[from]);

/** The first step after `from` at which a member has a mark or members' values part. */
function commonEnd(members: readonly Member[], from: number): number {
  let to = Number.POSITIVE_INFINITY;
  for (const { marks } of members) to = Math.min(to, marks.find((mark) => mark > from) ?? Number.POSITIVE_INFINITY);
  const [first, ...others] = members;
  for (const { values } of others) {
    let step = from;
    while (step < to && Object.is(values[step], first!.values[step])) step++;
    to = Math.min(to, step);
  }
  return to;
}

/** Steps of the union of some runs' ways up to given steps: what must be trained to have all of those weights. */
export function unionSteps(tree: SegmentTree, wanted: readonly { run: number; step: number }[]): number {
  const byId = new Map(tree.segments.map((s) => [s.id, s]));
  const needed = new Set<string>();
  for (const { run, step } of wanted) for (const id of tree.paths[run]!) if (byId.get(id)!.to <= step) needed.add(id);
  let steps = 0;
  for (const id of needed) steps += byId.get(id)!.to - byId.get(id)!.from;
  return steps;
}

/** The configuration that trains a segment. */
export const configOf = (segment: Segment, runs: readonly StudyRun[]): RunConfig => runs[segment.runs[0]!]!.config;
