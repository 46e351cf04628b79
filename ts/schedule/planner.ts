import { ConfigError } from "../config/errors.ts";
import type { ScheduleSpec, ScheduleSpecInput } from "../config/schedule_schema.ts";
import { nominalBudgets } from "./cycles.ts";
import { buildSchedule, type Schedule, type ScheduleOptions } from "./schedule.ts";
import { type Measures, stepsOf } from "./units.ts";

/** What is to be laid out: one set of budgets and decays, as a WSD-S schedule says them. */
export type PlannerSpec = Pick<ScheduleSpec, "peak" | "warmup"> & { wsd_s: NonNullable<ScheduleSpec["wsd_s"]> };

/** One training run of a plan. Steps are counted on its own path, from its start or from where it leaves another run. */
export interface PlannedPath {
  readonly name: string;
  readonly lr: ScheduleSpecInput;
  readonly schedule: Schedule;
  /** The run it branches off and after how many updates; null for one that starts from new weights. */
  readonly from: { readonly path: string; readonly step: number } | null;
  /** Last step of its path. */
  readonly end: number;
}

/** A decayed checkpoint for one budget. All in steps. */
export interface Deliverable {
  readonly index: number;
  /** Nominal budget B_k. */
  readonly budget: number;
  readonly path: string;
  /** Updates on its own path. */
  readonly step: number;
  /** Trained in all to have deliverables 1..k, branches counted. */
  readonly cumulative: number;
  /** Trained to have this one alone. */
  readonly alone: number;
}

/** A way to serve the budgets. */
export interface Plan {
  readonly name: string;
  readonly paths: readonly PlannedPath[];
  readonly deliverables: readonly Deliverable[];
  /** Checkpoints it makes: before and after each decay, and at each end. */
  readonly checkpoints: readonly { readonly path: string; readonly step: number }[];
  /** Steps trained in all. */
  readonly steps: number;
}

export interface Planned {
  readonly plans: readonly Plan[];
  /** What does not fit, by the name of the plan; a plan that does not fit is not among `plans`. */
  readonly problems: readonly { readonly plan: string; readonly message: string }[];
}

interface Given {
  readonly spec: PlannerSpec;
  readonly options: ScheduleOptions;
  readonly nominal: readonly { readonly budget: number; readonly decay: number; readonly end: number }[];
}

/**
 * Lays the budgets of a WSD-S spec out as WSD with branches, WSD-S, cyclic cosine and one cosine a budget, the last two at the
 * nominal budgets B_k and at the ends N_k, where their compute is that of the others. What does not fit one layout is a
 * problem of that one. Throws ConfigError when budgets or decays themselves cannot be read.
 */
export function planBudgets(spec: PlannerSpec, options: ScheduleOptions = {}): Planned {
  const path = [...(options.path ?? ["schedule", "lr"]), "wsd_s"];
  const measures = {
    tokensPerStep: options.tokensPerStep ?? null,
    sequencesPerStep: options.sequencesPerStep,
    flopsPerStep: options.flopsPerStep,
    totalSteps: typeof options.totalSteps === "number" ? options.totalSteps : null,
  };
  const nominal = nominalBudgets(spec.wsd_s, { spec, measures, path });
  const given: Given = { spec: { ...spec, warmup: fixedWarmup(spec, nominal, measures) }, options, nominal };
  const plans: Plan[] = [];
  const problems: { plan: string; message: string }[] = [];
  for (const [name, layOut] of Object.entries(layouts)) {
    try {
      plans.push(finish(name, layOut(given)));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push({ plan: name, message: error.message });
    }
  }
  return { plans, problems };
}

/** The warm-up in steps: a share would be of another whole in each layout, and branches would not share their trunk. */
function fixedWarmup({ warmup }: PlannerSpec, nominal: Given["nominal"], measures: Measures): PlannerSpec["warmup"] {
  const whole = { ...measures, totalSteps: nominal.at(-1)!.end };
  const steps = stepsOf(typeof warmup === "object" ? warmup.steps : warmup, whole, ["schedule", "lr", "warmup"]);
  return typeof warmup === "object" ? { ...warmup, steps } : steps;
}

type Draft = Pick<Plan, "paths" | "deliverables">;

const layouts: Record<string, (given: Given) => Draft> = {
  "wsd, branches": branches,
  "wsd-s": chain,
  "cyclic cosine at B": (given) => cyclic(given, (b) => b.budget),
  "cyclic cosine at N": (given) => cyclic(given, (b) => b.end),
  "cosine at B": (given) => cosines(given, (b) => b.budget),
  "cosine at N": (given) => cosines(given, (b) => b.end),
};

function path(
  { options }: Given,
  name: string,
  lr: ScheduleSpecInput,
  end: number,
  from: PlannedPath["from"] = null,
): PlannedPath {
  return { name, lr, schedule: buildSchedule(lr, { ...options, totalSteps: end }), from, end };
}

/** A trunk at the peak up to the last decay, and a branch for each budget that is thrown away afterwards. */
function branches(given: Given): Draft {
  const { peak, warmup, wsd_s } = given.spec;
  const { fraction: _, of: __, ...descent } = wsd_s.decay;
  const furthest = Math.max(...given.nominal.map(({ budget, decay }) => budget - decay));
  const trunk = path(given, "trunk", { peak, warmup, constant: {} }, furthest);
  let [spent, trained] = [0, 0];
  const made = given.nominal.map(({ budget, decay }, index) => {
    const name = `branch ${index + 1}`;
    const lr = { peak, warmup, wsd: { steps: budget, decay: { ...descent, steps: decay } } };
    const branch = path(given, name, lr, budget, { path: "trunk", step: budget - decay });
    spent += decay;
    trained = Math.max(trained, budget - decay);
    const cumulative = trained + spent;
    return { branch, deliverable: { index, budget, path: name, step: budget, cumulative, alone: budget } };
  });
  return { paths: [trunk, ...made.map((m) => m.branch)], deliverables: made.map((m) => m.deliverable) };
}

/** One run: each decay is kept and gone on from. */
function chain(given: Given): Draft {
  const run = path(given, "run", given.spec, given.nominal.at(-1)!.end);
  const deliverables = given.nominal.map(({ budget, end }, index) => ({
    index,
    budget,
    path: "run",
    step: end,
    cumulative: end,
    alone: end,
  }));
  return { paths: [run], deliverables };
}

type EndOf = (b: Given["nominal"][number]) => number;

const floorOf = ({ spec }: Given) => ({ floor: spec.wsd_s.decay.floor });

/** One run with a cosine up to each budget. */
function cyclic(given: Given, endOf: EndOf): Draft {
  const { peak, warmup } = given.spec;
  const ends = given.nominal.map(endOf);
  const run = path(given, "run", { peak, warmup, cyclic_cosine: { ends, ...floorOf(given) } }, ends.at(-1)!);
  const deliverables = given.nominal.map((b, index) => {
    const step = endOf(b);
    return { index, budget: b.budget, path: "run", step, cumulative: step, alone: step };
  });
  return { paths: [run], deliverables };
}

/** A run of its own for each budget. */
function cosines(given: Given, endOf: EndOf): Draft {
  const { peak, warmup } = given.spec;
  let spent = 0;
  const made = given.nominal.map((b, index) => {
    const end = endOf(b);
    spent += end;
    const run = path(given, `run ${index + 1}`, { peak, warmup, cosine: { steps: end, ...floorOf(given) } }, end);
    return { run, deliverable: { index, budget: b.budget, path: run.name, step: end, cumulative: spent, alone: end } };
  });
  return { paths: made.map((m) => m.run), deliverables: made.map((m) => m.deliverable) };
}

function finish(name: string, { paths, deliverables }: Draft): Plan {
  const checkpoints = paths.flatMap(({ name: own, schedule, from, end }) => {
    const around = schedule.budgets.flatMap((b) => [b.decayStart, b.end]);
    // A branch begins at its trunk's checkpoint, which is not made again.
    const steps = [...new Set([...around, end])].filter((step) => step > (from?.step ?? 0));
    return steps.sort((a, b) => a - b).map((step) => ({ path: own, step }));
  });
  const forks = paths.flatMap(({ from }) => (from === null ? [] : [{ path: from.path, step: from.step }]));
  const all = [
    ...checkpoints,
    ...forks.filter((f) => !checkpoints.some((c) => c.path === f.path && c.step === f.step)),
  ];
  const steps = paths.reduce((sum, { end, from }) => sum + end - (from?.step ?? 0), 0);
  return { name, paths, deliverables, checkpoints: all, steps };
}
