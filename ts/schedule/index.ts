export { type BatchPlan, planBatch } from "./batch.ts";
export { type Comparison, type Difference, realisedEqual } from "./compare.ts";
export { type Deliverable, type Plan, type Planned, type PlannedPath, planBudgets } from "./planner.ts";
export { planRun, type RunPlan } from "./run_plan.ts";
export { buildScalars, type RunScalars, type StepScalars } from "./scalars.ts";
export {
  type Budget,
  buildSchedule,
  type Phase,
  type PhaseKind,
  runSteps,
  type Schedule,
  type ScheduleOptions,
} from "./schedule.ts";
