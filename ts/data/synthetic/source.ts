import { createHash } from "node:crypto";

/** A generated document. Tokens are bytes of readable text. */
export interface SyntheticDocument {
  readonly tokens: Int32Array;
  /** Exact entropy in nats of each token given everything before it in the document: what no model can beat on average. */
  readonly entropy: Float32Array;
  /** -ln of the probability the token had: on average equal to the entropy. */
  readonly surprise: Float32Array;
}

/** A language whose statistics are known. Any number of documents; each follows from the seed, its stream and its index. */
export interface SyntheticSource {
  readonly name: string;
  /** What makes the language, for provenance. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Mean entropy of a token in nats, exact; null when it is only known by counting. */
  readonly entropyRate: number | null;
  document(stream: string, index: number): SyntheticDocument;
}

/** Uniform numbers in [0, 1) from any text: sfc32 (Doty-Humphrey) seeded by SHA-256. */
export function randomOf(key: string): () => number {
  const digest = createHash("sha256").update(`thalweg synthetic 1 ${key}`).digest();
  let [a, b, c, counter] = [0, 4, 8, 12].map((at) => digest.readInt32LE(at)) as [number, number, number, number];
  return () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  };
}

/** `count` different numbers below `size`, in random order. */
export function choose(random: () => number, size: number, count: number): number[] {
  const all = Array.from({ length: size }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(random() * (size - i));
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all.slice(0, count);
}

/** A document under way. */
export class DocumentBuilder {
  private readonly tokens: number[] = [];
  private readonly entropy: number[] = [];
  private readonly surprise: number[] = [];

  get length(): number {
    return this.tokens.length;
  }

  /** A token that had this probability, where the distribution's entropy was this. */
  add(token: number, entropy: number, probability: number): void {
    this.tokens.push(token);
    this.entropy.push(entropy);
    this.surprise.push(-Math.log(probability));
  }

  /** One of `options`, all equally likely. */
  addUniform(token: number, options: number): void {
    this.add(token, Math.log(options), 1 / options);
  }

  /** What another document holds, after what stands here. */
  append({ tokens, entropy, surprise }: SyntheticDocument): void {
    for (let i = 0; i < tokens.length; i++) {
      this.tokens.push(tokens[i]!);
      this.entropy.push(entropy[i]!);
      this.surprise.push(surprise[i]!);
    }
  }

  finish(): SyntheticDocument {
    const { tokens, entropy, surprise } = this;
    return {
      tokens: Int32Array.from(tokens),
      entropy: Float32Array.from(entropy),
      surprise: Float32Array.from(surprise),
    };
  }
}
