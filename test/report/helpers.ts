import type { Run } from "../../ts/report/curves.ts";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import type { EvaluationRecord, StepRecord } from "../../ts/train/records.ts";

/** Throws unless the text is one well-formed XML element: tags balanced, attributes quoted, no bare & or <. */
export function checkXml(text: string): void {
  const open: string[] = [];
  const rest = text
    .trim()
    .replaceAll(/<(\/?)([A-Za-z]\w*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (_all, close, name, attributes, empty) => {
      if (/&(?!amp;|lt;|gt;|quot;)/.test(attributes)) throw new Error(`bare & in ${attributes}`);
      if (close && open.pop() !== name) throw new Error(`</${name}> closes something else`);
      if (!close && !empty) open.push(name);
      return "";
    });
  if (open.length > 0) throw new Error(`<${open.at(-1)}> is not closed`);
  if (/[<>]|&(?!amp;|lt;|gt;|quot;)/.test(rest)) throw new Error(`not text: ${rest.slice(0, 80)}`);
}

/** A small WSD-S run that never took place, whose loss depends on the learning rate as a real one's does. */
export function madeUpRun(name: string, budgets: readonly number[], decays: boolean): Run {
  const spec = { peak: 4e-3, warmup: 30 };
  const wsds = buildSchedule({ ...spec, wsd_s: { budgets: [...budgets] } });
  const schedule = decays ? wsds : buildSchedule({ ...spec, constant: {} }, { totalSteps: wsds.end });
  const steps: StepRecord[] = [];
  const evaluations: EvaluationRecord[] = [];
  const noise = (step: number) => Math.sin(step * 12.9898) * 0.06;
  const level = (step: number) =>
    1.6 + 3.8 * Math.exp(-step / 60) + 0.5 * Math.exp(-step / 900) + 25 * schedule.valueAt(Math.max(0, step - 1));
  for (let step = 1; step <= wsds.end!; step++) {
    const lr = schedule.valueAt(step - 1);
    const { kind } = schedule.phaseAt(step - 1);
    const numbers = { gradNorm: 1, tokensPerSecond: 1000 + (step % 7), share: null };
    steps.push({
      type: "step",
      step,
      tokens: step * 1024,
      loss: level(step) + noise(step),
      lr,
      ...numbers,
      phase: kind,
      epoch: 0,
    });
    const starts = wsds.budgets.find((budget) => budget.decayStart === step);
    const ends = wsds.budgets.find((budget) => budget.end === step);
    if (!starts && !ends && step % 50 !== 0) continue;
    const occasion = decays && starts ? "pre-decay" : decays && ends ? "post-decay" : "periodic";
    const budget = decays ? ((starts ?? ends)?.index ?? null) : null;
    evaluations.push({
      type: "evaluation",
      step,
      tokens: step * 1024,
      loss: level(step),
      evaluatedTokens: 4096,
      occasion,
      budget,
      lr,
    });
  }
  return { name, steps, evaluations };
}
