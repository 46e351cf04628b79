import { readFileSync } from "node:fs";
import test from "ava";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { buildSchedule } from "../../ts/schedule/schedule.ts";

interface Case {
  name: string;
  spec: ScheduleSpecInput;
  totalSteps?: number;
  tokensPerStep?: number;
  sequencesPerStep?: number;
  steps: number[];
  values: number[];
}

for (const library of ["hf", "megatron", "olmo", "levanter", "optax"]) {
  const file = new URL(`../fixtures/schedules/${library}.json`, import.meta.url);
  const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };
  for (const { name, spec, steps, values, ...options } of cases)
    test(`${library}: ${name} is reproduced at every sampled step`, (t) => {
      const schedule = buildSchedule(spec, options);
      t.true(steps.length >= 15);
      for (const [i, step] of steps.entries()) {
        const [found, expected] = [schedule.valueAt(step), values[i]!];
        // Both are float64 with sums in another order: a few ulp of the peak.
        t.true(
          Math.abs(found - expected) <= 1e-14 * spec.peak * 10,
          `step ${step}: ${found}, ${library} has ${expected}`,
        );
      }
    });
}
