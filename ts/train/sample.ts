import { ThalwegError } from "../base/errors.ts";

export interface SampleOptions {
  /** Logits are divided by it; 0 = always the most likely token. */
  temperature: number;
  /** Only the k most likely tokens; 0 = all. */
  topK: number;
  /** Only the most likely tokens that together have this probability (Holtzman et al. 2020); 1 = all. */
  topP: number;
}

export const sampleDefaults: SampleOptions = { temperature: 0.8, topK: 0, topP: 1 };

/** @throws BAD_OPTION naming the option. */
export function checkSampleOptions({ temperature, topK, topP }: SampleOptions): void {
  const wrong = (name: string, found: number, expected: string) =>
    new ThalwegError("BAD_OPTION", `${name} is ${found}, expected ${expected}`);
  if (!(temperature >= 0)) throw wrong("temperature", temperature, "a number >= 0");
  if (!Number.isInteger(topK) || topK < 0) throw wrong("top-k", topK, "a whole number >= 0 (0 = all tokens)");
  if (!(topP > 0 && topP <= 1)) throw wrong("top-p", topP, "a number in (0, 1]");
}

/** Draws a token from logits; `uniform` in (0, 1) decides. Ties go to the lower id. */
export function sampleToken(logits: Float32Array, options: SampleOptions, uniform: number): number {
  const { temperature, topK, topP } = options;
  if (temperature === 0) return logits.reduce((best, value, id) => (value > logits[best]! ? id : best), 0);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const kept = topK > 0 ? order.slice(0, topK) : order;
  const highest = logits[kept[0]!]!;
  const weights = kept.map((id) => Math.exp((logits[id]! - highest) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let nucleus = 0;
  let count = 0;
  while (count < weights.length && nucleus < topP * total) nucleus += weights[count++]!;
  let rest = uniform * nucleus;
  for (let i = 0; i < count; i++) if ((rest -= weights[i]!) < 0) return kept[i]!;
  return kept[count - 1]!;
}
