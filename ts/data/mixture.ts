import { ThalwegError } from "../base/errors.ts";
import { Permutation } from "./order.ts";

/** What is mixed: a name and how many blocks one epoch of it has. */
export interface MixtureSource {
  readonly name: string;
  readonly blocks: number;
}

/** From this block of the run on, sources are drawn in these shares (of any sum; a source not named has none). */
export interface MixtureStage {
  readonly from: number;
  readonly weights: Readonly<Record<string, number>>;
}

/** A block of a source. */
export interface BlockPlace {
  /** Index of the source. */
  readonly source: number;
  /** Index of the block in it. */
  readonly block: number;
  /** How often the source has been read through before, from 0. */
  readonly epoch: number;
}

/** Blocks in which the shares of a stage hold exactly, up to rounding to 1/16384. */
const period = 2 ** 14;

/**
 * Which block of which source comes at each place of a run. In every period of 16,384 blocks each source has its share of
 * places, scattered by a permutation keyed by (seed, stage, period); the nth place of a source is its nth block in the
 * order Permutation(blocks, seed, epoch). So the block at a place follows from the place alone: one counter is the whole
 * state, and any place is found without walking. With one source the order is that of a single dataset.
 */
export class MixtureOrder {
  readonly sources: readonly MixtureSource[];
  private readonly stages: readonly { readonly from: number; readonly quotas: readonly number[] }[];
  /** Blocks of each source before each stage. */
  private readonly before: readonly (readonly number[])[];
  private readonly seed: number;
  private readonly orders: (Permutation | null)[];
  private readonly epochs: number[];
  private drawn: PeriodDraw | null = null;

  /** @throws ThalwegError BAD_CONFIG when weights name unknown sources, are negative or all zero, or stages are out of order */
  constructor(sources: readonly MixtureSource[], stages: readonly MixtureStage[], seed: number) {
    this.sources = sources;
    this.seed = seed;
    this.orders = sources.map(() => null);
    this.epochs = sources.map(() => -1);
    this.stages = stages.map(({ from, weights }) => ({ from, quotas: quotasOf(sources, weights) }));
    const misplaced = stages.findIndex((stage, i) => (i === 0 ? stage.from !== 0 : stage.from <= stages[i - 1]!.from));
    if (stages.length === 0 || misplaced >= 0)
      throw new ThalwegError("BAD_CONFIG", "the stages of a mixture must begin at 0 and follow one another");
    const before = [sources.map(() => 0)];
    for (let k = 1; k < this.stages.length; k++) {
      const within = this.countsIn(k - 1, this.stages[k]!.from - this.stages[k - 1]!.from);
      before.push(before[k - 1]!.map((count, s) => count + within[s]!));
    }
    this.before = before;
  }

  /** The block at a place, from 0. */
  at(place: number): BlockPlace {
    const { stage, offset } = this.stageAt(place);
    const { quotas } = this.stages[stage]!;
    const draw = this.draw(stage, Math.floor(offset / period));
    const slot = offset % period;
    const source = draw.source[slot]!;
    const nth = this.before[stage]![source]! + Math.floor(offset / period) * quotas[source]! + draw.rank[slot]!;
    const { blocks } = this.sources[source]!;
    const epoch = Math.floor(nth / blocks);
    return { source, block: this.order(source, epoch).permute(nth % blocks), epoch };
  }

  /** How many blocks of each source lie before a place. */
  countsBefore(place: number): number[] {
    const { stage, offset } = this.stageAt(place);
    return this.countsIn(stage, offset).map((count, s) => this.before[stage]![s]! + count);
  }

  /** The largest place before which no source is read a second time: where data that stop end. */
  end(): number {
    const fits = (place: number) => this.countsBefore(place).every((count, s) => count <= this.sources[s]!.blocks);
    let low = 0;
    let high = this.sources.reduce((sum, source) => sum + source.blocks, 0) + 1;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (fits(middle)) low = middle;
      else high = middle;
    }
    return low;
  }

  private stageAt(place: number): { stage: number; offset: number } {
    let stage = this.stages.length - 1;
    while (this.stages[stage]!.from > place) stage--;
    return { stage, offset: place - this.stages[stage]!.from };
  }

  private countsIn(stage: number, blocks: number): number[] {
    const { quotas } = this.stages[stage]!;
    const periods = Math.floor(blocks / period);
    const counts = quotas.map((quota) => quota * periods);
    const rest = blocks % period;
    if (rest === 0) return counts;
    const { source } = this.draw(stage, periods);
    for (let slot = 0; slot < rest; slot++) counts[source[slot]!]!++;
    return counts;
  }

  private draw(stage: number, index: number): PeriodDraw {
    if (this.drawn?.stage === stage && this.drawn.index === index) return this.drawn;
    const { quotas } = this.stages[stage]!;
    const source = new Uint16Array(period);
    const rank = new Uint16Array(period);
    const seen = quotas.map(() => 0);
    const only = quotas.indexOf(period);
    const scatter = only >= 0 ? null : new Permutation(period, `${this.seed} mixture stage ${stage}`, index);
    const ofPlace = Uint16Array.from(quotas.flatMap((quota, s) => new Array<number>(quota).fill(s)));
    for (let slot = 0; slot < period; slot++) {
      const s = scatter ? ofPlace[scatter.permute(slot)]! : only;
      source[slot] = s;
      rank[slot] = seen[s]!++;
    }
    this.drawn = { stage, index, source, rank };
    return this.drawn;
  }

  private order(source: number, epoch: number): Permutation {
    if (this.epochs[source] !== epoch) {
      const { name, blocks } = this.sources[source]!;
      const seed = this.sources.length === 1 ? this.seed : `${this.seed} source ${name}`;
      this.orders[source] = new Permutation(blocks, seed, epoch);
      this.epochs[source] = epoch;
    }
    return this.orders[source]!;
  }
}

/** The sources of one period, in order, and how many of each came before in it. */
interface PeriodDraw {
  readonly stage: number;
  readonly index: number;
  readonly source: Uint16Array;
  readonly rank: Uint16Array;
}

/** Places of each source in a period: shares rounded by the largest remainder, at least one for any share. */
function quotasOf(sources: readonly MixtureSource[], weights: Readonly<Record<string, number>>): number[] {
  const names = sources.map((source) => source.name);
  const unknown = Object.keys(weights).find((name) => !names.includes(name));
  const fail = (what: string): never => {
    throw new ThalwegError("BAD_CONFIG", `weights of the mixture: ${what}; the sources are ${names.join(", ")}`);
  };
  if (unknown !== undefined) fail(`"${unknown}" is no source`);
  const shares = names.map((name) => weights[name] ?? 0);
  const total = shares.reduce((sum, share) => sum + share, 0);
  if (shares.some((share) => !(share >= 0)) || !(total > 0) || !Number.isFinite(total))
    fail(`found ${JSON.stringify(weights)}, expected numbers of at least 0, one of them positive`);
  const exact = shares.map((share) => (share / total) * period);
  const quotas = exact.map((places) => (places > 0 ? Math.max(1, Math.floor(places)) : 0));
  let left = period - quotas.reduce((sum, quota) => sum + quota, 0);
  const byRemainder = exact
    .map((places, s) => [places - quotas[s]!, s] as const)
    .sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (let i = 0; left > 0; i = (i + 1) % quotas.length, left--) quotas[byRemainder[i]![1]]!++;
  // Many tiny shares rounded up to one place each: the largest ones give way.
  for (; left < 0; left++) quotas[quotas.indexOf(Math.max(...quotas))]!--;
  return quotas;
}
