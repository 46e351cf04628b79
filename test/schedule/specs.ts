import fc from "fast-check";
import { curveShapes, decayShapes } from "../../ts/config/schedule_parts.ts";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";

/** What random specs are measured against. */
export const options = { tokensPerStep: 1024, sequencesPerStep: 8, flopsPerStep: 1e9, totalSteps: 700 };

const level = fc.double({ min: 0.01, max: 0.9, noNaN: true });

const decay = fc
  .record({
    fraction: fc.double({ min: 0.02, max: 0.4, noNaN: true }),
    of: fc.constantFrom("cumulative" as const, "cycle" as const),
    shape: fc.constantFrom(...decayShapes),
    floor: fc.oneof(
      level,
      level.map((ratio) => ({ value: ratio * 1e-6 })),
    ),
    power: fc.double({ min: 0.5, max: 4, noNaN: true }),
    lowered: fc.double({ min: 0.9, max: 1, noNaN: true }),
    halfLife: fc.integer({ min: 1, max: 60 }),
  })
  .map(({ power, lowered, halfLife, ...rest }) => ({
    ...rest,
    ...(rest.shape === "polynomial" ? { power } : {}),
    ...(rest.shape === "lowered_linear" ? { lowered } : {}),
    ...(rest.shape === "half_life" ? { halfLife } : {}),
  }));

const warmup = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.record({
    steps: fc.integer({ min: 1, max: 40 }),
    shape: fc.constantFrom(...curveShapes),
    from: fc.double({ min: 0.001, max: 1, noNaN: true }),
  }),
);

const gaps = fc.array(fc.integer({ min: 80, max: 400 }), { minLength: 1, maxLength: 4 });
const sums = (list: readonly number[]) => list.map((_, k) => list.slice(0, k + 1).reduce((a, b) => a + b, 0));
const rewarmup = fc.option(
  fc.record({ steps: fc.integer({ min: 1, max: 20 }), from: fc.oneof(fc.constant("last" as const), level) }),
  { nil: undefined },
);
const end = fc.integer({ min: 80, max: 900 });

type Shape = Omit<ScheduleSpecInput, "peak">;
/** A shape that may have a warm-up. */
const warmed = (shape: fc.Arbitrary<Shape>): fc.Arbitrary<Shape> =>
  fc.tuple(shape, warmup).map(([spec, w]) => ({ ...spec, warmup: w }));

/** Specs of each shape that fit together, by name of the preset; schedules end between step 40 and about 2,500. */
export const presets: Record<string, fc.Arbitrary<Shape>> = {
  constant: warmed(fc.constant({ constant: {} })),
  cosine: warmed(fc.record({ steps: end, floor: level, power: fc.constantFrom(1, 2) }).map((cosine) => ({ cosine }))),
  linear: warmed(fc.record({ steps: end, floor: level }).map((linear) => ({ linear }))),
  d2z: warmed(end.map((steps) => ({ linear: { steps, floor: 0 } }))),
  wsd: warmed(fc.record({ steps: end, decay }).map((wsd) => ({ wsd }))),
  "wsd-s by budgets": warmed(fc.record({ budgets: gaps.map(sums), decay }).map((wsd_s) => ({ wsd_s }))),
  "wsd-s by ends, with a re-warm-up": warmed(
    fc
      .record({ ends: gaps.map(sums), decay: decay.map((d) => ({ ...d, of: "cycle" as const })), rewarmup })
      .map((wsd_s) => ({ wsd_s })),
  ),
  "wsd-s by cycle length, with falling peaks": warmed(
    fc
      .record({ length: fc.integer({ min: 80, max: 300 }), count: fc.integer({ min: 1, max: 5 }), decay })
      .map(({ decay: d, ...cycles }) => ({
        wsd_s: { cycles, peaks: "1/sqrt", decay: { ...d, floor: { value: 1e-9 } } },
      })),
  ),
  "wsd-s by doubling": warmed(
    fc
      .record({ last: fc.integer({ min: 400, max: 1600 }), count: fc.integer({ min: 1, max: 3 }), decay })
      .map(({ decay: d, ...doubling }) => ({ wsd_s: { doubling, decay: d } })),
  ),
  "cyclic cosine": warmed(
    fc.record({ ends: gaps.map(sums), floor: level, rewarmup }).map((cyclic_cosine) => ({ cyclic_cosine })),
  ),
  "cyclic cosine filling the run": warmed(
    fc
      .record({
        length: fc.integer({ min: 60, max: 500 }),
        last: fc.constantFrom("shorter" as const, "longer" as const),
      })
      .map((cycles) => ({ cyclic_cosine: { cycles } })),
  ),
  trapezoid: warmed(
    fc
      .record({ steps: end, fraction: fc.double({ min: 0.05, max: 0.4, noNaN: true }) })
      .map((trapezoid) => ({ trapezoid })),
  ),
  one_cycle: fc
    .record({
      steps: end,
      up: fc.double({ min: 0.05, max: 0.9, noNaN: true }),
      shape: fc.constantFrom("cosine" as const, "linear" as const),
    })
    .map((one_cycle) => ({ one_cycle })),
  inverse_sqrt: warmed(
    fc
      .record({ steps: end, timescale: fc.integer({ min: 1, max: 300 }), floor: level })
      .map((inverse_sqrt) => ({ inverse_sqrt })),
  ),
  power: warmed(
    fc
      .record({ steps: end, decay })
      .map((power) => ({ power: { ...power, decay: { ...power.decay, floor: { value: 0.9e-6 } } } })),
  ),
  range_test: fc
    .record({ steps: end, from: level, shape: fc.constantFrom("exponential" as const, "linear" as const) })
    .map((range_test) => ({ range_test })),
  phases: warmed(
    fc
      .array(
        fc.record({ steps: fc.integer({ min: 1, max: 150 }), to: level, shape: fc.constantFrom(...curveShapes) }),
        {
          minLength: 1,
          maxLength: 5,
        },
      )
      .map((phases) => ({ phases })),
  ),
  table: fc.array(fc.tuple(fc.integer({ min: 1, max: 200 }), level), { minLength: 1, maxLength: 5 }).chain((rows) =>
    fc.constantFrom("linear" as const, "cosine" as const, "hold" as const).map((interpolation) => ({
      table: {
        points: [[0, 1], ...sums(rows.map(([at]) => at)).map((at, i) => [at, rows[i]![1]])] as [number, number][],
        interpolation,
      },
    })),
  ),
};

/** Every preset with a peak, a way of counting and what comes after. Peaks are large against the absolute floors above. */
export const specs: fc.Arbitrary<{ preset: string; spec: ScheduleSpecInput }> = fc
  .constantFrom(...Object.keys(presets))
  .chain((preset) =>
    fc
      .tuple(
        presets[preset]!,
        fc.double({ min: 1e-6, max: 10, noNaN: true }),
        fc.constantFrom(undefined, 0 as const, 1 as const),
        fc.constantFrom(undefined, "stop" as const, "stay" as const),
      )
      .map(([shape, peak, countFrom, after]) => ({
        preset,
        spec: {
          peak,
          ...shape,
          ...(countFrom === undefined ? {} : { countFrom }),
          ...(after === undefined ? {} : { after }),
        },
      })),
  );
