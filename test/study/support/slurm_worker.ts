/** What a job of the Slurm test runs: slurm_worker.ts FOLDER --segment ID --threads N. Says how it ended. */
import { StudyStore } from "../../../ts/study/store.ts";
import { makeSegment } from "../../../ts/study/worker.ts";
import { silentReporter } from "../../../ts/train/reporter.ts";
import { StopSignals } from "../../../ts/train/signals.ts";

const [folder, , id] = process.argv.slice(2);
const signals = new StopSignals().install();
const store = new StudyStore(folder!);
const plan = await store.plan();
const sleep = new Int32Array(new SharedArrayBuffer(4));
const pause = Number(process.env.THALWEG_TEST_PAUSE ?? 0);
const reporter = {
  ...silentReporter,
  step: ({ record }: { record: { step: number } }) => {
    process.stdout.write(`step ${record.step}\n`);
    Atomics.wait(sleep, 0, 0, pause);
  },
};
const segment = plan.segments.find((s) => s.id === id)!;
const outcome = await makeSegment(segment, plan, store, { threads: 1, signal: signals.signal, reporter });
signals.dispose();
process.stdout.write(`${outcome}\n`);
process.exitCode = outcome === "done" ? 0 : outcome === "stopped" ? 75 : 1;
