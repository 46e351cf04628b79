import { join } from "node:path";
import { ExitCode } from "../base/errors.ts";
import { commandLine } from "../base/shell.ts";
import { type LoadedConfig, loadRunConfig } from "../config/load.ts";
import { formatDryRun } from "../report/dry_run.ts";
import { planRun as checkSchedule } from "../schedule/index.ts";
import { orderDecay } from "../train/control.ts";
import { progressReporter } from "../train/progress.ts";
import { silentReporter } from "../train/reporter.ts";
import type { DriftPolicy } from "../train/resume.ts";
import { runTraining } from "../train/run.ts";
import { flopsForSchedule, planFromConfig } from "../train/setup.ts";
import { StopSignals } from "../train/signals.ts";
import { note, print, printJson } from "./output.ts";
import { version } from "./version.ts";

export interface TrainArguments {
  config: string;
  overrides: readonly string[];
  out: string | undefined;
  resume: string | undefined;
  "on-drift": DriftPolicy;
  "init-from": string | undefined;
  "fork-from": string | undefined;
  "dry-run": boolean;
  quiet: boolean;
  json: boolean;
}

/** What `thalweg train` does; returns its exit code. */
export async function runTrainCommand(args: TrainArguments): Promise<number> {
  const loaded = await loadRunConfig(args.config, args.overrides);
  checkSchedule(loaded, { flopsPerStep: await flopsForSchedule(loaded.config) }); // an impossible schedule is answered with its line of the file
  if (args["dry-run"]) return printDryRun(loaded, args.json);
  using signals = new StopSignals({
    onFirst: (name) => note(`${name}: saving the last finished step; a second one stops at once`),
  }).install();
  const runDir = args.out ?? join("runs", loaded.config.name);
  const decayNow = () => void orderDecay(runDir, {}).catch((error: Error) => note(`SIGUSR2: ${error.message}`));
  process.on("SIGUSR2", decayNow);
  using _ = { [Symbol.dispose]: () => void process.off("SIGUSR2", decayNow) };
  const result = await runTraining({
    config: loaded.config,
    sources: loaded.sources,
    versions: { thalweg: version(), node: process.versions.node },
    runDir,
    resume: args.resume,
    onDrift: args["on-drift"],
    initFrom: args["init-from"],
    forkFrom: args["fork-from"],
    signal: signals.signal,
    reporter: args.json
      ? progressReporter({ stream: process.stdout, json: true })
      : args.quiet
        ? silentReporter
        : progressReporter({ stream: process.stderr }),
  });
  if (args.json) printJson({ type: "result", ...result });
  else print(`${result.runDir}: step ${result.step}, ${result.tokens} tokens, stopped by ${result.stoppedBy}`);
  if (result.stoppedBy !== "signal") return ExitCode.ok;
  const words = [args.config, ...args.overrides, "--out", result.runDir, "--resume", "auto"];
  note(`To go on: thalweg train ${commandLine(words)}`);
  return ExitCode.savedRunAgain;
}

async function printDryRun({ config }: LoadedConfig, json: boolean): Promise<number> {
  const plan = (await planFromConfig(config)).dryRun;
  if (json) printJson(plan);
  else print(formatDryRun(plan));
  return ExitCode.ok;
}
