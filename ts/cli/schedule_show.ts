import { basename } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { type LoadedConfig, loadRunConfig } from "../config/load.ts";
import { compareSchedules, type NamedSchedule } from "../report/schedule_comparison.ts";
import { showSchedule } from "../report/schedule_report.ts";
import { planRun } from "../schedule/index.ts";
import { flopsForSchedule } from "../train/setup.ts";
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
        tokensPerStep: only!.config.batch.tokens,
      })
    : compareSchedules(named);
  if (svg) await writeFileAtomic(svg, shown.svg);
  if (csv) await writeFileAtomic(csv, shown.csv);
  for (const file of [svg, csv]) if (file) note(`wrote ${file}`);
  if (!json) print(shown.text);
  else printJson("json" in shown ? shown.json : shown.rows);
}
