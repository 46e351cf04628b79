import type { ThalwegError } from "../base/errors.ts";
import type { DecayRequest } from "../config/schedule_parts.ts";
import type { Beginning } from "./begin.ts";
import { checkpointName } from "./checkpoint_state.ts";
import { ControlFile } from "./control.ts";
import { decayed, resolveDecay } from "./live_decay.ts";
import type { LoopPlan } from "./loop.ts";
import { planMilestones } from "./milestones.ts";
import type { MetricsRecord } from "./records.ts";
import { type PlannedRun, runSchedule } from "./setup.ts";
import { extendLineage } from "./start.ts";

export interface RedirectOptions {
  runDir: string;
  beginning: Beginning;
  record: (record: MetricsRecord) => void;
  note: (text: string) => void;
  /** The run's plan has changed: run.json is to say so. */
  onTurn: (now: Beginning) => Promise<void>;
}

/** A run's course as the loop follows it. */
export function loopPlan({ config, scalars, schedule, end }: PlannedRun): LoopPlan {
  const milestones = planMilestones(config, schedule, end);
  return { schedule, end, milestones, scalarsAt: (step) => scalars.at(step) };
}

/** Steps whose speed says how long a decay of so many hours is. */
const SPEED_STEPS = 50;

/** Decays ordered while a run is under way: the plan as it stands now, and its turns. */
export class Redirect {
  readonly #o: RedirectOptions;
  readonly #control: ControlFile;
  readonly #speeds: number[] = [];
  /** What the run does now: the beginning's plan and lineage, with the decays ordered since. */
  current: Beginning;

  constructor(options: RedirectOptions) {
    this.#o = options;
    this.current = options.beginning;
    this.#control = new ControlFile(options.runDir, (message) => this.#refuse(0, message));
  }

  observe(record: MetricsRecord): void {
    if (record.type !== "step") return;
    this.#speeds.push(record.tokensPerSecond);
    if (this.#speeds.length > SPEED_STEPS) this.#speeds.shift();
  }

  /** The plan from `step` on when a decay was ordered since the last call, else null. An order that does not fit is a warning. */
  async take(step: number): Promise<LoopPlan | null> {
    const request = this.#control.take();
    if (request === null) return null;
    try {
      this.current = this.#turned(step, request);
    } catch (error) {
      if ((error as Partial<ThalwegError>).code === undefined) throw error;
      this.#refuse(step, (error as Error).message);
      return null;
    }
    await this.#o.onTurn(this.current);
    return loopPlan(this.current.plan);
  }

  #turned(step: number, request: DecayRequest): Beginning {
    const { plan, lineage } = this.current;
    const speeds = this.#speeds.toSorted((a, b) => a - b);
    const tokensPerSecond = speeds[speeds.length >> 1] ?? null;
    const tokensPerStep = plan.scalars.batch.sequencesAt(step) * plan.config.batch.length;
    const spec = resolveDecay(request, { step, tokensPerStep, tokensPerSecond, now: Date.now() });
    const config = decayed(plan.config, spec);
    const { scalars, schedule, end } = runSchedule(config, plan.model);
    this.#o.note(
      `step ${step}: decay ordered, ${spec.steps} steps of shape ${spec.shape}; then ${spec.next.replace("_", " ")}`,
    );
    const entry = {
      fromStep: step,
      reason: "decay" as const,
      parent: `checkpoints/${checkpointName(step)}`,
      scheduleHash: schedule.hash,
      schedule: schedule.canonical,
      spec,
    };
    return {
      ...this.current,
      plan: { ...plan, config, scalars, schedule, end },
      lineage: extendLineage(lineage, entry),
    };
  }

  #refuse(step: number, message: string): void {
    const suggestion = "Training goes on as before. Order the decay again with other values.";
    this.#o.record({ type: "warning", step, detector: "decay-refused", message, suggestion });
  }
}
