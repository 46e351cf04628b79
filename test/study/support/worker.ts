/** A worker process that is slow enough to be killed in the middle: worker.ts FOLDER --threads N. */
import { StudyStore } from "../../../ts/study/store.ts";
import { work } from "../../../ts/study/worker.ts";
import { silentReporter } from "../../../ts/train/reporter.ts";
import { StopSignals } from "../../../ts/train/signals.ts";

const signals = new StopSignals().install();
const store = new StudyStore(process.argv[2]!);
const sleep = new Int32Array(new SharedArrayBuffer(4));
const pause = Number(process.env.THALWEG_TEST_PAUSE ?? 0);
const reporter = { ...silentReporter, step: () => void Atomics.wait(sleep, 0, 0, pause) };
const finished = await work(await store.plan(), store, { threads: 1, signal: signals.signal, reporter });
signals.dispose();
process.exitCode = finished ? 0 : 75;
