import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { ScheduleSpecInput } from "../../ts/config/schedule_schema.ts";
import { exportSchedule } from "../../ts/report/schedule_export.ts";
import { buildSchedule, type Schedule } from "../../ts/schedule/schedule.ts";
import type { Segment } from "../../ts/schedule/segment.ts";

const shapes = [
  "inverse",
  "1-sqrt",
  "1-square",
  "mirror_cosine",
  "exponential",
  "exponential_megatron",
  "inverse_sqrt",
] as const;
const cases: Record<string, ScheduleSpecInput> = {
  "wsd-s": { peak: 4e-3, warmup: 30, wsd_s: { budgets: [100, 200, 400], rewarmup: { steps: 7, shape: "1-sqrt" } } },
  cyclic: { peak: 1, warmup: { steps: 9, shape: "1-square" }, cyclic_cosine: { ends: [60, 160], power: 2, floor: 0 } },
  law: { peak: 1, warmup: 20, inverse_sqrt: { steps: 300, floor: 0.3 } },
  halves: { peak: 1, wsd: { steps: 90, decay: { steps: 60, shape: "half_life", halfLife: 9 } } },
  counted: {
    peak: 2,
    warmup: 5,
    countFrom: 1,
    wsd: { steps: 50, decay: { fraction: 0.3, shape: "linear", floor: 0 } },
  },
  levanter: { peak: 1, compat: "levanter", wsd: { steps: 40, decay: { steps: 20 } } },
  power: { peak: 0.02, warmup: 10, power: { steps: 200, decay: { fraction: 0.2, shape: "polynomial", floor: 0 } } },
  cut: { peak: 1, cosine: { steps: 100 }, interruptions: [{ at: 33, steps: 20, next: "go_on", floor: 0.05 }] },
  ...Object.fromEntries(shapes.map((shape) => [shape, { peak: 1, wsd: { steps: 60, decay: { steps: 40, shape } } }])),
};
const sizes = { tokensPerStep: 2 ** 20, sequencesPerStep: 256 };
const built = Object.entries(cases).map(([name, spec]) => ({ name, schedule: buildSchedule(spec, sizes) }));

/** Values of exported segments by formulas of the docs, written apart from ts/schedule. */
function evaluate(segments: readonly Segment[], step: number): number {
  const s = segments.findLast((x) => x.start <= step)!;
  const { from: a, to: b, curve } = s;
  const t = Math.min(step, s.end ?? step) - s.start + (s.skip ?? 0);
  const u = Math.min(
    1,
    Math.max(0, curve === "inverse_levanter" ? Math.max(t, 1) : t) / (s.span ?? (s.end ?? 0) - s.start),
  );
  const down = (left: (x: number) => number) => (b > a ? a + (b - a) * left(1 - u) : b + (a - b) * left(u));
  const p = s.power ?? 1;
  switch (curve) {
    case "constant":
      return a;
    case "linear":
      return down((x) => 1 - x);
    case "cosine":
      return down((x) => Math.cos((Math.PI * x) / 2) ** (2 * p));
    case "inverse":
    case "inverse_levanter":
      return 1 / ((1 - u) / a + u / b);
    case "inverse_sqrt":
      return ((1 - u) / a ** 2 + u / b ** 2) ** -0.5;
    case "1-sqrt":
      return down((x) => 1 - x ** 0.5);
    case "1-square":
      return down((x) => (1 - x) * (1 + x));
    case "mirror_cosine":
      return down((x) => 2 - 2 * x - Math.cos((Math.PI * x) / 2) ** 2);
    case "exponential":
      return Math.exp((1 - u) * Math.log(a) + u * Math.log(b));
    case "exponential_megatron":
      return down((x) => 2 ** (1 - x) - 1);
    case "polynomial":
      return down((x) => (1 - x) ** p);
    case "half_life":
      return Math.max(b, a * Math.exp((-t / s.scale!) * Math.LN2));
    case "root_law":
      return Math.max(b, Math.min(a, a * (s.scale! / Math.max(t, 1)) ** 0.5));
    case "root_law_above":
      return b + (a - b) * Math.min(1, (s.scale! / Math.max(t, 1)) ** 0.5);
    case "power_law":
      return Math.max(b, Math.min(a, s.scale! * t ** p));
  }
}

const steps = (schedule: Schedule) => Array.from({ length: schedule.end! + 3 }, (_, step) => step);
// Other ways to the same formula: a few ulp.
const close = (x: number, y: number, scale: number) => Math.abs(x - y) <= 1e-13 * scale;

test("the JSON's segments and the documented formulas give every value", (t) => {
  for (const { name, schedule } of built) {
    const { segments, peak } = JSON.parse(exportSchedule(schedule, "json", { name })) as {
      segments: Segment[];
      peak: number;
    };
    for (const step of steps(schedule))
      t.true(
        close(evaluate(segments, step), schedule.valueAt(step), peak),
        `${name} step ${step}: ${evaluate(segments, step)}, ${schedule.valueAt(step)}`,
      );
  }
});

test("the CSV has each update's value in full precision", (t) => {
  for (const { name, schedule } of built) {
    const rows = exportSchedule(schedule, "csv", { name }).trim().split("\n").slice(1);
    t.is(rows.length, schedule.end!);
    for (const row of rows) {
      const [step, lr] = row.split(",").map(Number);
      t.is(lr, schedule.valueAt(step!));
    }
  }
});

/** A Python that can import a module; null when there is none. */
function pythonWith(module: string): string | null {
  for (const python of [process.env.THALWEG_PYTHON, "python3"]) {
    if (!python) continue;
    try {
      execFileSync(python, ["-c", `import ${module}`], { stdio: "ignore", timeout: 120_000 });
      return python;
    } catch {}
  }
  return null;
}

/** Runs exported modules in one Python process and returns each one's values. */
function run(python: string, format: "torch" | "optax", call: string): Record<string, number[]> {
  const folder = mkdtempSync(join(tmpdir(), "thalweg-export-"));
  try {
    const lines = ["import json, sys", `sys.path.insert(0, ${JSON.stringify(folder)})`, "out = {}"];
    for (const [i, { name, schedule }] of built.entries()) {
      writeFileSync(join(folder, `m${i}.py`), exportSchedule(schedule, format, { name }));
      lines.push(`import m${i} as x`, `n = ${schedule.end! + 3}`, `out[${JSON.stringify(name)}] = ${call}`);
    }
    lines.push("print(json.dumps(out))");
    writeFileSync(join(folder, "run.py"), lines.join("\n"));
    const env = { ...process.env, JAX_ENABLE_X64: "1", JAX_PLATFORMS: "cpu" };
    return JSON.parse(execFileSync(python, [join(folder, "run.py")], { encoding: "utf8", env }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const checks = {
  "the PyTorch module gives every value": { module: "math", format: "torch", call: "[x.lr_at(s) for s in range(n)]" },
  "its LambdaLR gives an optimizer every value": {
    module: "torch",
    format: "torch",
    call: "(lambda o: (lambda l: [(o.param_groups[0]['lr'], o.step(), l.step())[0] for _ in range(n)])(x.lambda_lr(o)))(__import__('torch').optim.SGD([__import__('torch').nn.Parameter(__import__('torch').zeros(1))], lr=x.PEAK))",
  },
  "the optax schedule gives every value": {
    module: "optax",
    format: "optax",
    call: "[float(x.schedule(s)) for s in range(n)]",
  },
} as const;

for (const [promise, { module, format, call }] of Object.entries(checks))
  test(promise, (t) => {
    const python = pythonWith(module);
    if (python === null) {
      t.log(`skipped: no python3 here (or THALWEG_PYTHON) that can import ${module}`);
      t.pass();
      return;
    }
    const found = run(python, format, call);
    for (const { name, schedule } of built)
      for (const step of steps(schedule)) {
        const [value, expected] = [found[name]![step]!, schedule.valueAt(step)];
        t.true(close(value, expected, schedule.peak), `${name} step ${step}: ${value}, expected ${expected}`);
      }
  });
