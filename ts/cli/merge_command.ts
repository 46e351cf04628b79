import { ThalwegError } from "../base/errors.ts";
import type { decayShapes } from "../config/schedule_parts.ts";
import { formatTable } from "../report/table.ts";
import { evaluateCheckpoint } from "../train/evaluate_checkpoint.ts";
import { mergeCheckpoints } from "../train/merge.ts";
import type { Weighing } from "../train/merge_weights.ts";
import { print, printJson } from "./output.ts";

export interface MergeArguments {
  checkpoints: readonly string[];
  out: string;
  last: number | undefined;
  window: string | undefined;
  weights: string | undefined;
  ema: number | undefined;
  like: (typeof decayShapes)[number] | undefined;
  floor: number;
  evaluate: boolean;
  json: boolean;
}

function weighingOf({ weights, ema, like, floor }: MergeArguments): Weighing {
  const said = [weights, ema, like].filter((option) => option !== undefined);
  if (said.length > 1) throw new ThalwegError("BAD_OPTION", "--weights, --ema and --like exclude each other.");
  if (weights !== undefined) return { kind: "list", weights: weights.split(",").map(Number) };
  if (ema !== undefined) return { kind: "ema", decay: ema };
  return like === undefined ? { kind: "uniform" } : { kind: "decay", shape: like, floor };
}

function windowOf(text: string): [number, number] {
  const match = /^(\d+):(\d+)$/.exec(text);
  if (match) return [Number(match[1]), Number(match[2])];
  throw new ThalwegError("BAD_OPTION", `--window is ${text}; expected FROM:TO in steps, such as 4000:5000.`);
}

/** What `thalweg merge` does. */
export async function runMergeCommand(args: MergeArguments): Promise<void> {
  const { checkpoints: paths, out, last, json } = args;
  const window = args.window === undefined ? undefined : windowOf(args.window);
  const merged = await mergeCheckpoints({ paths, last, window, weighing: weighingOf(args), out });
  const newest = merged.sources.at(-1)!.path;
  const losses = args.evaluate
    ? {
        newest: (await evaluateCheckpoint({ path: newest })).loss,
        merged: (await evaluateCheckpoint({ path: merged.path })).loss,
      }
    : null;
  if (json) return printJson({ ...merged, losses });
  const rows = merged.sources.map((s) => [String(s.step), s.weight.toFixed(6), s.path]);
  print(formatTable([{ title: "step", align: "right" }, { title: "weight", align: "right" }, "checkpoint"], rows));
  print(`\nmerged into ${merged.path}`);
  if (losses)
    print(`validation loss: newest ${losses.newest.toFixed(4)}, merged ${losses.merged.toFixed(4)} nats per token`);
}
