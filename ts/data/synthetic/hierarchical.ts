import { ThalwegError } from "../../base/errors.ts";
import { firstSymbol } from "./bigram.ts";
import { choose, DocumentBuilder, randomOf, type SyntheticDocument, type SyntheticSource } from "./source.ts";

export interface HierarchicalOptions {
  readonly seed?: number;
  /** Topics, each announced by a capital letter. 2 to 26; default 8. */
  readonly topics?: number;
  /** Topics that may follow one. Default 3. */
  readonly topicBranches?: number;
  /** Symbols below the topics, 2 to 31. Default 24. */
  readonly vocab?: number;
  /** Successors of a symbol within a topic. Default 3. */
  readonly symbolBranches?: number;
  /** Symbols between two topics. Default 31. */
  readonly segment?: number;
  /** Topics in a document. Default 32. */
  readonly segments?: number;
}

const capitalA = 65;
const mostSymbols = capitalA - firstSymbol - 1;

/**
 * Markov chains on two levels: a chain of topics, each announced by its letter, and below it a chain of symbols with the
 * topic's own transitions. What comes next depends on the symbol before and on a letter up to `segment` tokens back, so a
 * model of bigrams cannot reach the entropy rate, which is known exactly.
 */
export class HierarchicalSource implements SyntheticSource {
  readonly name = "hierarchical";
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly entropyRate: number;
  private readonly seed: number;
  private readonly segment: number;
  private readonly segments: number;
  /** Topics that may follow each topic, equally likely. */
  private readonly following: readonly (readonly number[])[];
  /** [topic][symbol]: the symbols that may come next and their probabilities, 1/2, 1/4, ..., the last one twice. */
  private readonly rows: readonly (readonly (readonly number[])[])[];
  private readonly probabilities: readonly number[];
  private readonly rowEntropy: number;

  /** @throws ThalwegError BAD_OPTION for numbers that make no language */
  constructor(options: HierarchicalOptions = {}) {
    const {
      seed = 0,
      topics = 8,
      topicBranches = 3,
      vocab = 24,
      symbolBranches: branches = 3,
      segment = 31,
      segments = 32,
    } = options;
    const within = (value: number, low: number, high: number) =>
      Number.isInteger(value) && value >= low && value <= high;
    const fits = within(topics, 2, 26) && within(topicBranches, 1, topics) && within(vocab, 2, mostSymbols);
    if (!fits || !within(branches, 1, vocab) || !within(segment, 1, 1e6) || !within(segments, 1, 1e6))
      throw new ThalwegError(
        "BAD_OPTION",
        `hierarchical: found ${JSON.stringify(options)}; expected 2 to 26 topics, 2 to ${mostSymbols} symbols, and branches no more than there are`,
      );
    this.parameters = { seed, topics, topicBranches, vocab, symbolBranches: branches, segment, segments };
    this.seed = seed;
    this.segment = segment;
    this.segments = segments;
    const random = randomOf(`hierarchical ${seed} language`);
    this.following = Array.from({ length: topics }, () => choose(random, topics, topicBranches));
    this.rows = Array.from({ length: topics }, () =>
      Array.from({ length: vocab }, () => choose(random, vocab, branches)),
    );
    this.probabilities = Array.from({ length: branches }, (_, i) => 2 ** -Math.min(i + 1, branches - 1));
    this.rowEntropy = this.probabilities.reduce((sum, p) => sum - p * Math.log(p), 0);
    // The first symbol of a segment follows symbol 0; all rows have the same entropy, so no distribution is needed.
    const letters = Math.log(topics) + (segments - 1) * Math.log(topicBranches);
    this.entropyRate = (letters + segments * segment * this.rowEntropy) / (segments * (segment + 1));
  }

  document(stream: string, index: number): SyntheticDocument {
    const random = randomOf(`hierarchical ${this.seed} ${stream} ${index}`);
    const out = new DocumentBuilder();
    const topics = this.rows.length;
    let topic = Math.floor(random() * topics);
    for (let s = 0; s < this.segments; s++) {
      if (s > 0) topic = this.following[topic]![Math.floor(random() * this.following[topic]!.length)]!;
      out.addUniform(capitalA + topic, s === 0 ? topics : this.following[topic]!.length);
      let symbol = 0;
      for (let i = 0; i < this.segment; i++) {
        const choice = this.draw(random());
        symbol = this.rows[topic]![symbol]![choice]!;
        out.add(firstSymbol + symbol, this.rowEntropy, this.probabilities[choice]!);
      }
    }
    return out.finish();
  }

  private draw(uniform: number): number {
    let left = uniform;
    for (const [i, p] of this.probabilities.entries()) {
      left -= p;
      if (left < 0) return i;
    }
    return this.probabilities.length - 1;
  }
}
