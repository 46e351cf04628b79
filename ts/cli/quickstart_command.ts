import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { ExitCode } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { loadRunConfig } from "../config/load.ts";
import { budgetRows, budgetTable, medianGain } from "../report/budgets.ts";
import { curvesSvg } from "../report/curves.ts";
import { formatPrepared, prepareProgress } from "../report/prepared.ts";
import { quickstart } from "../study/quickstart.ts";
import { progressReporter } from "../train/progress.ts";
import { StopSignals } from "../train/signals.ts";
import { note, print, printJson } from "./output.ts";
import { version } from "./version.ts";

const packageFile = (path: string): string => relative(".", fileURLToPath(new URL(`../../${path}`, import.meta.url)));

/** What `thalweg quickstart` does; returns its exit code. */
export async function runQuickstartCommand(args: {
  out: string;
  config: string | undefined;
  input: string[] | undefined;
  json: boolean;
}): Promise<number> {
  const { config } = await loadRunConfig(args.config ?? packageFile("configs/quickstart.yaml"));
  using signals = new StopSignals({ onFirst: (name) => note(`${name}: saving, then stopping`) }).install();
  const result = await quickstart({
    config,
    folder: args.out,
    inputs: args.input ?? [`packages:${packageFile("node_modules")}`],
    versions: { thalweg: version(), node: process.versions.node },
    signal: signals.signal,
    onStage: (text) => note(`\n== ${text}`),
    onPrepare: prepareProgress(process.stderr),
    reporter: progressReporter({ stream: process.stderr }),
  });
  if (result.stopped) return ExitCode.savedRunAgain;
  const { metrics, controls, prepared, sample } = result;
  // For the table they are one run: their decays do not overlap.
  const control = {
    name: "control",
    steps: controls.flatMap((c) => c.steps),
    evaluations: controls.flatMap((c) => c.evaluations),
  };
  const rows = budgetRows(metrics, control);
  const gain = medianGain(rows);
  const picture = join(args.out, "curves.svg");
  await writeFileAtomic(picture, curvesSvg([metrics, ...controls], { title: "Quickstart: WSD-S and its controls" }));
  if (args.json) {
    printJson({ budgets: rows, medianGain: gain, sample, picture });
    return ExitCode.ok;
  }
  print(`\n${formatPrepared(prepared)}\n`);
  print(budgetTable(metrics, control));
  print(`\nmedian decay drop minus control drop: ${gain?.toFixed(4) ?? "-"} nats per token`);
  print(`\nsample of the last checkpoint:\n${sample}\n`);
  print(`loss and learning-rate curves: ${picture}`);
  print(`try: thalweg generate ${join(args.out, "run")} --prompt "import "`);
  return ExitCode.ok;
}
