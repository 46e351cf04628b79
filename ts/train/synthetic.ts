import type { Batch } from "../data/loader.ts";
import { uniforms } from "./random.ts";

/** Probabilities of a token's followers, most likely first. */
const followerWeights = [0.5, 0.25, 0.15, 0.1];

/** A source of tokens with something to learn, the same for a seed on every machine. */
export interface SyntheticText {
  /** Nats per token below which no model gets: the entropy of the next token given the one before. */
  entropy: number;
  /** The batch of a step; targets are tokens one further. */
  batch(sequences: number, length: number, step: number): Batch;
}

/**
 * A sparse bigram chain over the whole vocabulary: each token has four possible followers, drawn with the cube of a uniform
 * number, so that low ids are frequent. A model learns the frequencies within tens of steps and the pairs after them, hence
 * its loss falls early and goes on falling; random tokens would teach it nothing.
 */
export function bigramText(vocab: number, seed: number): SyntheticText {
  const draw = uniforms(seed, 1);
  const followers = Int32Array.from({ length: vocab * followerWeights.length }, () => Math.floor(vocab * draw() ** 3));
  const next = (token: number, uniform: number): number => {
    let rest = uniform;
    const last = followerWeights.length - 1;
    const choice = followerWeights.findIndex((weight) => (rest -= weight) < 0);
    return followers[token * followerWeights.length + (choice < 0 ? last : choice)]!;
  };
  const entropy = -followerWeights.reduce((sum, p) => sum + p * Math.log(p), 0);
  return {
    entropy,
    batch(sequences, length, step) {
      const uniform = uniforms(seed, 2 + step);
      const tokens = new Int32Array(sequences * length);
      const targets = new Int32Array(sequences * length);
      for (let row = 0; row < sequences; row++) {
        let token = Math.floor(uniform() * vocab);
        for (let i = row * length; i < (row + 1) * length; i++) {
          tokens[i] = token;
          token = next(token, uniform());
          targets[i] = token;
        }
      }
      const place = { epoch: 0, position: (step + 1) * sequences, offset: 0 };
      return { tokens, targets, sequences, length, validTokens: sequences * length, ...place };
    },
  };
}
