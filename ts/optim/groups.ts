import { ThalwegError } from "../base/errors.ts";
import type { Parameter, ParameterKind } from "../model/parameters.ts";

/** A rule for some parameters. `match`: a regular expression over engine or Hugging Face names. */
export interface GroupRule {
  match?: string | undefined;
  kind?: ParameterKind | undefined;
  /** Factor on the learning rate. */
  lr?: number | undefined;
  /** Factor on the weight decay. */
  decay?: number | undefined;
}

export interface Scales {
  lrScale: number;
  decayScale: number;
}

/** The paper's mask: decay on every matrix that multiplies, lm_head included; none on norms and embeddings. */
export const paperDecay: Readonly<Record<ParameterKind, number>> = { linear: 1, norm: 0, embedding: 0 };

/** Whether a rule holds for a parameter. Throws BAD_CONFIG when it holds for some parts of a fused parameter only. */
function holds(rule: GroupRule, index: number, p: Parameter): boolean {
  if (rule.kind !== undefined && rule.kind !== p.kind) return false;
  if (rule.match === undefined) return true;
  let pattern: RegExp;
  try {
    pattern = new RegExp(rule.match);
  } catch (cause) {
    throw new ThalwegError("BAD_CONFIG", `optimizer.groups[${index}].match "${rule.match}" is no regular expression`, {
      cause,
    });
  }
  if (pattern.test(p.name)) return true;
  const parts = p.parts.filter((part) => pattern.test(part.hfName));
  if (parts.length > 0 && parts.length < p.parts.length)
    throw new ThalwegError(
      "BAD_CONFIG",
      `optimizer.groups[${index}].match "${rule.match}" holds for ${parts.map((part) => part.hfName).join(", ")} but not for all parts of the fused ${p.name}: match all of them or none`,
    );
  return parts.length > 0;
}

/**
 * Factors of learning rate and weight decay of each parameter, by engine name. For each factor the first rule that holds and
 * states it wins; otherwise learning rate 1 and the paper's decay mask. Throws BAD_CONFIG for a rule that holds for no
 * parameter.
 */
export function parameterScales(
  parameters: readonly Parameter[],
  rules: readonly GroupRule[] = [],
): ReadonlyMap<string, Scales> {
  rules.forEach((rule, i) => {
    if (!parameters.some((p) => holds(rule, i, p)))
      throw new ThalwegError("BAD_CONFIG", `optimizer.groups[${i}] (${JSON.stringify(rule)}) matches no parameter`);
  });
  return new Map(
    parameters.map((p) => {
      const matching = rules.filter((rule, i) => holds(rule, i, p));
      const lrScale = matching.find((rule) => rule.lr !== undefined)?.lr ?? 1;
      const decayScale = matching.find((rule) => rule.decay !== undefined)?.decay ?? paperDecay[p.kind];
      return [p.name, { lrScale, decayScale }];
    }),
  );
}
