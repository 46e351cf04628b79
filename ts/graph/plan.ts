import { ALIGNMENT } from "../engine/program.ts";
import type { Purpose, TapeCommand, Tensor } from "./tape.ts";

/** `all`: memory of dead tensors is used again. `none`: every tensor has its own, to compare two devices node by node. */
export type Reuse = "all" | "none";

/** A run of memory in the scratch arena: one tensor, or several that take it over from one another in place. */
interface Block {
  tensors: Tensor[];
  bytes: number;
  /** First and last command that touch it, inclusive. */
  start: number;
  end: number;
  offset: number;
}

export interface MemoryPlan {
  /** Byte offset of every scratch tensor that is not a view. */
  offsets: ReadonlyMap<Tensor, number>;
  /** Size of the scratch arena. */
  bytes: number;
  peak: {
    /** Most bytes live at one command; `bytes` exceeds it by fragmentation only. */
    bytes: number;
    /** Label of that command. */
    label: string;
    byPurpose: Partial<Record<Purpose, number>>;
  };
}

export const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

const operandsOf = (c: TapeCommand): Tensor[] =>
  [...Object.values(c.inputs), ...Object.values(c.outputs)].filter((t) => t !== undefined);

/** First and last use of every scratch tensor; uses of a view count for its base. */
function lifetimes(commands: readonly TapeCommand[]): Map<Tensor, Block> {
  const blocks = new Map<Tensor, Block>();
  commands.forEach((c, index) => {
    for (const t of operandsOf(c)) {
      const root = t.root;
      if (root.space !== "scratch") continue;
      const known = blocks.get(root);
      if (known) known.end = index;
      else blocks.set(root, { tensors: [root], bytes: align(root.bytes), start: index, end: index, offset: 0 });
    }
  });
  return blocks;
}

/**
 * Lets outputs take the memory of inputs that die at the same command, as far as the op allows it. An input given to two
 * operands is left alone (the kernel would read through the other one what it has overwritten), and so is a view.
 */
function mergeInPlace(commands: readonly TapeCommand[], blocks: Map<Tensor, Block>): void {
  commands.forEach((c, index) => {
    const all = operandsOf(c);
    for (const [output, input] of Object.entries(c.rule.inplace ?? {})) {
      const to = c.outputs[output];
      const from = c.inputs[input];
      if (!to || !from) continue;
      const target = blocks.get(to); // a view has no block of its own
      const source = blocks.get(from);
      if (!target || !source || target === source || target.bytes !== source.bytes) continue;
      if (source.end !== index || target.start !== index) continue;
      if (all.filter((t) => t.root === from || t.root === to).length !== 2) continue;
      source.tensors.push(...target.tensors);
      source.end = target.end;
      for (const t of target.tensors) blocks.set(t, source);
    }
  });
}

/** Gives each block the tightest gap between blocks alive at the same time. Returns the arena size. */
function place(blocks: readonly Block[]): number {
  const placed: Block[] = [];
  let total = 0;
  for (const block of blocks) {
    let best = -1;
    let bestGap = Number.POSITIVE_INFINITY;
    let cursor = 0;
    for (const other of placed) {
      if (other.end < block.start || other.start > block.end) continue;
      const gap = other.offset - cursor;
      if (gap >= block.bytes && gap < bestGap) {
        best = cursor;
        bestGap = gap;
      }
      cursor = Math.max(cursor, other.offset + other.bytes);
    }
    block.offset = best >= 0 ? best : cursor;
    total = Math.max(total, block.offset + block.bytes);
    const at = placed.findIndex((other) => other.offset > block.offset);
    placed.splice(at < 0 ? placed.length : at, 0, block);
  }
  return total;
}

/** Greedy orders that each win on some graphs: large blocks first, long-lived first, as they come. */
const orders: readonly ((a: Block, b: Block) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.start - b.start,
  (a, b) => b.end - b.start - (a.end - a.start) || b.bytes - a.bytes,
  (a, b) => a.start - b.start || b.bytes - a.bytes,
];

function placeBest(blocks: readonly Block[]): number {
  const sizes = orders.map((order) => place(blocks.toSorted(order)));
  const best = Math.min(...sizes);
  return place(blocks.toSorted(orders[sizes.indexOf(best)]!));
}

function peakOf(commands: readonly TapeCommand[], blocks: readonly Block[]): MemoryPlan["peak"] {
  const change = new Float64Array(commands.length + 1);
  for (const b of blocks) {
    change[b.start]! += b.bytes;
    change[b.end + 1]! -= b.bytes;
  }
  let live = 0;
  let bytes = 0;
  let at = 0;
  for (let i = 0; i < commands.length; i++) {
    live += change[i]!;
    if (live > bytes) {
      bytes = live;
      at = i;
    }
  }
  const byPurpose: Partial<Record<Purpose, number>> = {};
  for (const b of blocks) {
    if (b.start > at || b.end < at) continue;
    const purpose = b.tensors[0]!.purpose;
    byPurpose[purpose] = (byPurpose[purpose] ?? 0) + b.bytes;
  }
  return { bytes, label: commands[at]?.label ?? "", byPurpose };
}

/**
 * Plans the scratch arena of a list of commands: lifetimes, in-place merges, then offsets, each a multiple of ALIGNMENT.
 * Two tensors share bytes only when no command lies in both their lifetimes or one took over the other in place.
 */
export function planMemory(commands: readonly TapeCommand[], { reuse = "all" }: { reuse?: Reuse } = {}): MemoryPlan {
  const byTensor = lifetimes(commands);
  if (reuse === "all") mergeInPlace(commands, byTensor);
  const blocks = [...new Set(byTensor.values())];
  if (reuse === "none") for (const b of blocks) Object.assign(b, { start: 0, end: commands.length - 1 });
  const bytes = placeBest(blocks);
  const offsets = new Map([...byTensor].map(([t, block]) => [t, block.offset]));
  return { offsets, bytes, peak: peakOf(commands, blocks) };
}
