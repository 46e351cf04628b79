import type { StudyPlan } from "./plan.ts";
import type { ResultRow } from "./results.ts";
import type { TunedFile } from "./tuned.ts";

/** One rule of method: whether the study keeps it, in words for its report. */
export interface MethodFinding {
  readonly ok: boolean;
  readonly text: string;
}

/** Seeds that a claim of order needs: with three, |t| must exceed 4.3. */
const fewestSeeds = 5;

/** What stands between a study and a claim. Findings that hold are said too: a reader should see what was taken care of. */
export function checkMethod(plan: StudyPlan, tuned: TunedFile | null, rows: readonly ResultRow[]): MethodFinding[] {
  return [peaks(plan, tuned), seeds(plan, tuned, rows), ...splits(plan), ...decays(plan), epochs(rows), margin(plan)];
}

function peaks({ spec }: StudyPlan, tuned: TunedFile | null): MethodFinding {
  const arms = Object.entries(spec.schedules).filter(([, arm]) => !arm.control);
  const compared = new Set(spec.compare.map(({ of }) => `$${of}`)); // peaks that are an axis are the question itself
  const given = arms.filter(([, arm]) => !compared.has(String(arm.lr.peak)));
  if (arms.length > 0 && given.length === 0) return { ok: true, text: "Peaks are what is compared: none is tuned." };
  const untuned = given.filter(([, arm]) => !String(arm.lr.peak ?? "").startsWith("tuned")).map(([name]) => name);
  if (untuned.length > 0 || arms.length === 0)
    return {
      ok: false,
      text: `The peak learning rate is not tuned${untuned.length > 0 ? ` for ${untuned.join(", ")}` : ""}: it alone can reverse an ordering.`,
    };
  const edge = Object.entries(tuned?.peaks ?? {}).filter(([, found]) => !found.interior);
  if (edge.length > 0)
    return {
      ok: false,
      text: `The best peak of ${edge.map(([key]) => key).join(", ")} lies at the edge of what was tried.`,
    };
  const taken = arms.flatMap(([name, arm]) => {
    const other = /^tuned:(.+)/.exec(String(arm.lr.peak))?.[1];
    return other === undefined ? [] : [`${name} takes that of ${other}`];
  });
  return taken.length > 0
    ? { ok: true, text: `Peaks are tuned, interior optima of a grid; ${taken.join(", ")}.` }
    : { ok: true, text: "Each schedule has its own tuned peak, an interior optimum of a grid." };
}

/** Seeds count when all their losses are there; before anything is trained, those of the plan. */
function seeds(plan: StudyPlan, tuned: TunedFile | null, rows: readonly ResultRow[]): MethodFinding {
  const own = new Set(plan.runs.map((run) => JSON.stringify(run.replicate)));
  const used = (tuned?.seeds ?? []).filter((seed) => plan.runs.some((run) => run.replicate.seed === String(seed)));
  if (used.length > 0) return { ok: false, text: `Seeds ${used.join(", ")} were used for tuning as well.` };
  const partly = new Set(
    rows.filter((row) => !row.control && row.loss === null).map((r) => JSON.stringify(r.replicate)),
  );
  const whole = own.size - partly.size;
  const count = partly.size === 0 ? `${own.size}` : `${whole} of ${own.size}`;
  const text = `${count} ${own.size === 1 ? "seed" : "seeds"}; a claim of order needs at least ${fewestSeeds}`;
  return whole >= fewestSeeds
    ? { ok: true, text: `${count} seeds${tuned ? ", none of them used for tuning" : ""}.` }
    : { ok: false, text: `${text} (with three, |t| must exceed 4.3).` };
}

function splits({ spec }: StudyPlan): MethodFinding[] {
  if (!spec.tuning) return [];
  const own = JSON.stringify(spec.tuning.set);
  const apart = own.includes("validation") || own.includes("evaluation");
  return [
    apart
      ? { ok: true, text: "Peaks were tuned on other validation text than the result is measured on." }
      : { ok: false, text: "Peaks were tuned on the validation text that the result is measured on." },
  ];
}

function decays(plan: StudyPlan): MethodFinding[] {
  const short = plan.warnings.find((message) => message.includes("second moment remembers"));
  return short === undefined ? [] : [{ ok: false, text: `Some decays are short: ${short}.` }];
}

function epochs(rows: readonly ResultRow[]): MethodFinding {
  const most = Math.max(0, ...rows.map((row) => row.epochs ?? 0));
  if (most <= 1) return { ok: true, text: "No run reads its data more than once." };
  return {
    ok: false,
    text: `The longest run reads its data ${most.toFixed(1)} times: losses are not those of unseen text.`,
  };
}

function margin({ spec }: StudyPlan): MethodFinding {
  if (spec.margin === undefined)
    return { ok: false, text: "No margin is declared: a difference that is not found is no evidence of equality." };
  return {
    ok: true,
    text: `Differences below ${spec.margin} nats count as none; the margin was declared in the study file.`,
  };
}
