import { basename } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { type LoadedConfig, loadRunConfig, located } from "../config/load.ts";
import { compareSchedules, type NamedSchedule } from "../report/schedule_comparison.ts";
import { type ExportFormat, exportSchedule } from "../report/schedule_export.ts";
import { planReport } from "../report/schedule_plan.ts";
import { showSchedule } from "../report/schedule_report.ts";
import { planBudgets, planRun } from "../schedule/index.ts";
import { flopsForSchedule, planFromConfig } from "../train/setup.ts";
import { note, print, printJson } from "./output.ts";

export interface ShowArguments {
  configs: readonly string[];
  vs: readonly string[];
  svg: string | undefined;
  csv: string | undefined;
  json: boolean;
}

/** A config's schedule with what durations in FLOPs need. */
export const scheduleOf = async (loaded: LoadedConfig) =>
  planRun(loaded, { flopsPerStep: await flopsForSchedule(loaded.config) });

/** Configs and the overrides for all of them, told apart by their `=`. */
function split(args: readonly string[]): { files: string[]; overrides: string[] } {
  const overrides = args.filter((text) => text.includes("="));
  const files = args.filter((text) => !text.includes("="));
  if (files.length === 0)
    throw new ThalwegError("BAD_OPTION", "name a run configuration, such as configs/quickstart.yaml");
  return { files, overrides };
}

export interface ExportArguments {
  config: string;
  overrides: readonly string[];
  format: ExportFormat;
  out: string | undefined;
}

/** What `thalweg schedule export` does: the text to a file, or to standard output. */
export async function runExport({ config, overrides, format, out }: ExportArguments): Promise<void> {
  const loaded = await loadRunConfig(config, overrides);
  const { schedule, steps } = await scheduleOf(loaded);
  const text = exportSchedule(schedule, format, { name: loaded.config.name, steps });
  if (out === undefined) return print(text.trimEnd());
  await writeFileAtomic(out, text);
  note(`wrote ${out}`);
}

export interface PlanArguments {
  config: string;
  overrides: readonly string[];
  rate: number | undefined;
  json: boolean;
}

/** What `thalweg schedule plan` does: the budgets of a WSD-S config as WSD, WSD-S, cyclic cosine and cosine. */
export async function runPlan({ config, overrides, rate, json }: PlanArguments): Promise<void> {
  const loaded = await loadRunConfig(config, overrides);
  const { lr } = loaded.config.schedule;
  if (lr.wsd_s === undefined)
    throw new ThalwegError(
      "BAD_CONFIG",
      `${config} has no schedule.lr.wsd_s, whose budgets and decays are what is planned. Say them: schedule.lr.wsd_s.budgets=[300,600,1200]`,
    );
  if (loaded.config.schedule.batch !== undefined)
    throw new ThalwegError(
      "BAD_CONFIG",
      `${config} has a schedule.batch; plans count steps of one size. Leave it out.`,
    );
  const { dryRun } = await planFromConfig(loaded.config);
  const flops = dryRun.flopsPerToken * dryRun.tokensPerStep;
  const { tokensPerStep, sequences, checkpointBytes } = dryRun;
  const sizes = { tokensPerStep, sequencesPerStep: sequences, flopsPerStep: flops };
  const { peak, warmup, wsd_s } = lr;
  const planned = located(loaded, () => planBudgets({ peak, warmup, wsd_s }, sizes));
  const costs = { tokens: tokensPerStep, flops, checkpointBytes, tokensPerSecond: rate ?? null };
  if (json) {
    const paths = (plan: (typeof planned.plans)[number]) => plan.paths.map(({ schedule: _, ...rest }) => rest);
    printJson({ ...planned, plans: planned.plans.map((plan) => ({ ...plan, paths: paths(plan) })), costs });
    return;
  }
  print(planReport(planned, costs));
  for (const { message, suggestion } of dryRun.warnings) note(`warning: ${message}. ${suggestion}`);
}

/** What `thalweg schedule show` does: one schedule in full, several side by side. */
export async function runShow({ configs, vs, svg, csv, json }: ShowArguments): Promise<void> {
  const { files, overrides } = split(configs);
  const list: NamedSchedule[] = [];
  let only: LoadedConfig | undefined;
  const add = async (file: string, replaced = "") => {
    only = await loadRunConfig(file, [...overrides, ...replaced.split(/\s+/).filter(Boolean)]);
    const name = replaced === "" || /\bname=/.test(replaced) ? only.config.name : replaced;
    list.push({ name, ...(await scheduleOf(only)) });
  };
  for (const file of files) await add(file);
  for (const text of vs) await add(files[0]!, text);
  const names = list.map((item) => item.name);
  const named = list.map((item, i) =>
    names.indexOf(item.name) === i ? item : { ...item, name: `${item.name} (${basename(files[i] ?? String(i))})` },
  );
  const one = named.length === 1 && only !== undefined;
  const shown = one
    ? showSchedule(named[0]!.schedule, {
        name: named[0]!.name,
        steps: named[0]!.steps ?? null,
      })
    : compareSchedules(named);
  if (svg) await writeFileAtomic(svg, shown.svg);
  if (csv) await writeFileAtomic(csv, shown.csv);
  for (const file of [svg, csv]) if (file) note(`wrote ${file}`);
  if (!json) print(shown.text);
  else printJson("json" in shown ? shown.json : shown.rows);
}
