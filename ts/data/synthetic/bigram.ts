import { ThalwegError } from "../../base/errors.ts";
import { choose, DocumentBuilder, randomOf, type SyntheticDocument, type SyntheticSource } from "./source.ts";

export interface BigramOptions {
  readonly seed?: number;
  /** Symbols of the language, 2 to 94. Default 64. */
  readonly vocab?: number;
  /** Share of symbols whose successor is certain. Default 0.5. */
  readonly certain?: number;
  /** Numbers of equally likely successors of the other symbols, in turn. Default 2, 4, 8, 16. */
  readonly branches?: readonly number[];
  /** Tokens of a document. Default 1024. */
  readonly length?: number;
}

/** Symbols are the printable characters from "!" on. */
export const firstSymbol = 33;
const mostSymbols = 94;

/**
 * Bigrams of controlled uncertainty: each symbol has its own set of equally likely successors, one for a certain symbol, so
 * the curvature of the loss (diag(P_i) - P_i P_i^T for row i, weighted by how often i occurs) differs from symbol to symbol in
 * a known way. After the paper's picture of certain and uncertain tokens (Wen et al., arXiv 2410.05192); the details of its
 * own construction are not published.
 */
export class BigramSource implements SyntheticSource {
  readonly name = "bigram";
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly entropyRate: number;
  /** Successors of each symbol. */
  readonly successors: readonly (readonly number[])[];
  private readonly seed: number;
  private readonly length: number;

  /** @throws ThalwegError BAD_OPTION for numbers that make no language */
  constructor(options: BigramOptions = {}) {
    const { seed = 0, vocab = 64, certain = 0.5, branches = [2, 4, 8, 16], length = 1024 } = options;
    const fits = branches.length > 0 && branches.every((b) => Number.isInteger(b) && b >= 1 && b <= vocab);
    if (!(Number.isInteger(vocab) && vocab >= 2 && vocab <= mostSymbols && certain >= 0 && certain <= 1 && fits))
      throw new ThalwegError(
        "BAD_OPTION",
        `bigram: found vocab ${vocab}, certain ${certain}, branches ${branches}; expected 2 to ${mostSymbols} symbols, a share, and branches of 1 to vocab`,
      );
    this.parameters = { seed, vocab, certain, branches, length };
    this.seed = seed;
    this.length = length;
    const random = randomOf(`bigram ${seed} language`);
    const isCertain = new Set(choose(random, vocab, Math.round(certain * vocab)));
    // The first successors form one cycle through all symbols: every symbol is reached from every other.
    const cycle = choose(random, vocab, vocab);
    const next = new Map(cycle.map((symbol, i) => [symbol, cycle[(i + 1) % vocab]!]));
    let uncertain = 0;
    this.successors = Array.from({ length: vocab }, (_, symbol) => {
      const count = isCertain.has(symbol) ? 1 : branches[uncertain++ % branches.length]!;
      const others = choose(random, vocab, count).filter((s) => s !== next.get(symbol));
      return [next.get(symbol)!, ...others.slice(0, count - 1)];
    });
    this.entropyRate = this.rate();
  }

  document(stream: string, index: number): SyntheticDocument {
    const random = randomOf(`bigram ${this.seed} ${stream} ${index}`);
    const out = new DocumentBuilder();
    const vocab = this.successors.length;
    let symbol = Math.floor(random() * vocab);
    out.addUniform(firstSymbol + symbol, vocab);
    while (out.length < this.length) {
      const options = this.successors[symbol]!;
      symbol = options[Math.floor(random() * options.length)]!;
      out.addUniform(firstSymbol + symbol, options.length);
    }
    return out.finish();
  }

  /** Mean over the tokens of a document: the distribution of symbols is carried along from the uniform start. */
  private rate(): number {
    const vocab = this.successors.length;
    let weights = new Float64Array(vocab).fill(1 / vocab);
    let total = Math.log(vocab);
    for (let at = 1; at < this.length; at++) {
      const following = new Float64Array(vocab);
      for (const [symbol, options] of this.successors.entries()) {
        total += weights[symbol]! * Math.log(options.length);
        for (const option of options) following[option]! += weights[symbol]! / options.length;
      }
      weights = following;
    }
    return total / this.length;
  }
}
