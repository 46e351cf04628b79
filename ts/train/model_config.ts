import { ThalwegError } from "../base/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { llamaConfig, preset } from "../model/presets.ts";
import type { GroupRule } from "../optim/groups.ts";

/** What the model section of a config means once the data is known. */
export interface ModelContext {
  length: number;
  /** Vocabulary of the data's tokenizer; null when there is no data (a benchmark). */
  vocab: number | null;
}

/**
 * The model of a run: the preset with the stated fields replaced, or the fields alone; the vocabulary of the tokenizer;
 * positions for the batch length. @throws BAD_CONFIG naming the field.
 */
export function resolveModel(section: RunConfig["model"], { length, vocab }: ModelContext): LlamaConfig {
  const { preset: name, init, ...fields } = section;
  const stated = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  const known = {
    maxLength: length,
    ...(vocab === null ? {} : { vocab }),
    ...headShape(section),
    ...stated,
    ...(init === undefined ? {} : { init }),
  };
  const model = name === undefined ? llamaConfig(known as Parameters<typeof llamaConfig>[0]) : preset(name, known);
  if (vocab !== null && model.vocab < vocab)
    throw new ThalwegError(
      "BAD_CONFIG",
      `model.vocab is ${model.vocab}, but the data's tokenizer has ${vocab} tokens. Leave model.vocab out, or give at least ${vocab}.`,
    );
  return model;
}

/** A preset's heads follow when its width is replaced: dim / heads wide, as many for keys and values. */
function headShape({ dim, heads, headDim }: RunConfig["model"]): Partial<LlamaConfig> {
  if (dim !== undefined && heads !== undefined && headDim === undefined && dim % heads !== 0)
    throw new ThalwegError(
      "BAD_CONFIG",
      `model.dim is ${dim} and model.heads ${heads}; expected a multiple of the heads. Change either, or say model.headDim.`,
    );
  return {
    ...(heads === undefined ? {} : { kvHeads: heads }),
    ...(dim === undefined || heads === undefined ? {} : { headDim: dim / heads }),
  };
}

/** Optimizer groups as ts/optim takes them. */
export function groupRules(groups: RunConfig["optimizer"]["groups"]): GroupRule[] {
  return groups.map(({ match, lrScale, weightDecayScale }) => ({
    ...(match.startsWith("kind:") ? { kind: match.slice(5) as NonNullable<GroupRule["kind"]> } : { match }),
    lr: lrScale,
    decay: weightDecayScale,
  }));
}

export const enginePrecision = (precision: RunConfig["precision"]): "f32" | "bf16" =>
  precision === "fp32" ? "f32" : "bf16";
