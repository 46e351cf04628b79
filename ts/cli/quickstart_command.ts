import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { ExitCode } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { formatPrepared, prepareProgress } from "../report/prepared.ts";
import { decayTable, medianGain } from "../report/quickstart.ts";
import { studyReport } from "../report/study_report.ts";
import { loadStudy } from "../study/load.ts";
import { quickstart } from "../study/quickstart.ts";
import { StopSignals } from "../train/signals.ts";
import { note, print, printJson } from "./output.ts";
import { trainLocally, writeReport } from "./study_command.ts";

const packageFile = (path: string): string => relative(".", fileURLToPath(new URL(`../../${path}`, import.meta.url)));

/** What `thalweg quickstart` does; returns its exit code. */
export async function runQuickstartCommand(args: {
  out: string;
  config: string | undefined;
  input: string[] | undefined;
  json: boolean;
}): Promise<number> {
  const { spec } = await loadStudy(packageFile("configs/studies/quickstart.yaml"));
  using signals = new StopSignals({ onFirst: (name) => note(`${name}: saving, then stopping`) }).install();
  const { signal } = signals;
  const result = await quickstart({
    spec: { ...spec, base: args.config ?? spec.base },
    folder: args.out,
    inputs: args.input ?? [`packages:${packageFile("node_modules")}`],
    signal,
    onStage: (text) => note(`\n== ${text}`),
    onPrepare: prepareProgress(process.stderr),
    train: (plan, store) => trainLocally(plan, store, { jobs: undefined, threads: undefined }, signal),
  });
  if (result === null) return ExitCode.savedRunAgain;
  const { plan, store, results, decays, prepared, sample } = result;
  const report = studyReport(plan, results, null);
  const page = await writeReport(store, report);
  const picture = join(args.out, "curves.svg");
  await writeFileAtomic(picture, report.figures["curves.svg"]!);
  const gain = medianGain(decays);
  if (args.json) {
    printJson({ budgets: decays, medianGain: gain, sharing: plan.sharing, sample, picture, report: page });
    return ExitCode.ok;
  }
  print(`\n${formatPrepared(prepared)}\n`);
  print(report.text);
  print(`\nWSD's decays beside the constant rate from the same weights, over the same data:\n\n${decayTable(decays)}`);
  print(`\nmedian decay drop minus control drop: ${gain?.toFixed(4) ?? "-"} nats per token`);
  print(`\nsample of the last weights of WSD-S:\n${sample}\n`);
  print(`report: ${page}\nloss and learning-rate curves: ${picture}`);
  print("A demonstration on two seeds at an untuned rate, not a study.");
  return ExitCode.ok;
}
