/**
 * Trains the small config in a process of its own, for tests that kill it: child.ts WORKPLACE RUN [JSON of SmallRun].
 * Prints "step N" for each step, exits as the command line does.
 */
import { exitCodeOf } from "../../../ts/base/errors.ts";
import { silentReporter } from "../../../ts/train/reporter.ts";
import { StopSignals } from "../../../ts/train/signals.ts";
import { type SmallRun, trainSmall } from "./runs.ts";

const [workplace, run, json = "{}"] = process.argv.slice(2);
const { pause = 0, ...options } = JSON.parse(json) as SmallRun & { pause?: number };
const signals = new StopSignals().install();
const say = (text: string) => void process.stdout.write(`${text}\n`);
const sleep = new Int32Array(new SharedArrayBuffer(4));
const reporter = {
  ...silentReporter,
  step: ({ record }: { record: { step: number } }) => {
    say(`step ${record.step}`);
    Atomics.wait(sleep, 0, 0, pause);
  },
  warning: (record: { detector: string; message: string }) => say(`warning ${record.detector} ${record.message}`),
  checkpoint: (record: { step: number }) => say(`saved ${record.step}`),
};
try {
  const result = await trainSmall(workplace!, run!, { ...options, signal: signals.signal, reporter });
  say(`end ${result.step} ${result.stoppedBy}`);
  process.exitCode = result.stoppedBy === "signal" ? 75 : 0;
} catch (error) {
  say(`error ${(error as { code?: string }).code} ${(error as Error).message}`);
  process.exitCode = exitCodeOf(error);
} finally {
  signals.dispose();
}
