import { join } from "node:path";
import { ExitCode, ThalwegError } from "../base/errors.ts";
import type { DecayRequest } from "../config/schedule_parts.ts";
import { orderDecay } from "../train/control.ts";
import { type Branch, branchDecay, planBranch } from "../train/decay.ts";
import { parseDecayRequest } from "../train/live_decay.ts";
import { progressReporter } from "../train/progress.ts";
import { silentReporter } from "../train/reporter.ts";
import { isTrained } from "../train/run_folder.ts";
import { StopSignals } from "../train/signals.ts";
import { note, print, printJson } from "./output.ts";
import { version } from "./version.ts";

export interface DecayArguments {
  run: string;
  from: string | undefined;
  steps: number | undefined;
  tokens: number | undefined;
  hours: number | undefined;
  until: string | undefined;
  shape: DecayRequest["shape"];
  floor: number;
  power: number | undefined;
  "half-life": string | undefined;
  next: DecayRequest["next"];
  out: string | undefined;
  live: boolean;
  "dry-run": boolean;
  quiet: boolean;
  json: boolean;
}

/** A number stays one, so that a length without a unit is steps. */
const duration = (text: string): number | string => (/^\d+$/.test(text) ? Number(text) : text);

function requestOf(args: DecayArguments): DecayRequest {
  const { steps, tokens, hours, until, shape, floor, power, next } = args;
  const halfLife = args["half-life"] === undefined ? undefined : duration(args["half-life"]);
  const stated = Object.entries({ steps, tokens, hours, until, shape, floor, power, halfLife, next });
  return parseDecayRequest(Object.fromEntries(stated.filter(([, value]) => value !== undefined)));
}

/** What `thalweg decay` does; returns its exit code. */
export async function runDecayCommand(args: DecayArguments): Promise<number> {
  const request = requestOf(args);
  const { run, from, json } = args;
  const branch = { run, from, request, ...(args.out === undefined ? {} : { runDir: args.out }) };
  if (args.live) return orderLive(args, request);
  const planned = await planBranch(branch);
  if (args["dry-run"]) return describe(planned, json);
  using signals = new StopSignals({
    onFirst: (name) => note(`${name}: saving the last finished step; a second one stops at once`),
  }).install();
  if (!args.quiet && !json) note(sentence(planned));
  const result = await branchDecay({
    ...branch,
    versions: { thalweg: version(), node: process.versions.node },
    signal: signals.signal,
    reporter: json
      ? progressReporter({ stream: process.stdout, json: true })
      : args.quiet
        ? silentReporter
        : progressReporter({ stream: process.stderr }),
  });
  if (json) printJson({ type: "result", ...result });
  else {
    const last = result.decays.at(-1);
    const drop = last?.drop == null ? "" : `, validation loss ${last.before!.toFixed(4)} to ${last.after.toFixed(4)}`;
    print(`${result.runDir}: step ${result.step}, stopped by ${result.stoppedBy}${drop}`);
  }
  return result.stoppedBy === "signal" ? ExitCode.savedRunAgain : ExitCode.ok;
}

async function orderLive({ run, from }: DecayArguments, request: DecayRequest): Promise<number> {
  if (from !== undefined)
    throw new ThalwegError("BAD_OPTION", "--live decays from the step the run is at: leave --from out.");
  if (!(await isTrained(run)))
    throw new ThalwegError(
      "BAD_OPTION",
      `nobody trains into ${run} now; without --live a decay is branched off its newest checkpoint.`,
    );
  await orderDecay(run, request);
  note(`ordered; the run takes it at its next step and says so in ${join(run, "run.json")}`);
  return ExitCode.ok;
}

const sentence = ({ checkpoint, decay, runDir }: Branch): string =>
  `decay of ${decay.steps} steps (${decay.shape}) from step ${decay.at} of ${checkpoint.path} into ${runDir}`;

function describe(branch: Branch, json: boolean): number {
  const { checkpoint, decay, config, runDir } = branch;
  if (json) printJson({ checkpoint: checkpoint.path, decay, runDir, schedule: config.schedule });
  else print(sentence(branch));
  return ExitCode.ok;
}
