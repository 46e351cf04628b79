/** Runs a study with two worker processes, whose ids it prints: runner.ts FOLDER. */
import { join } from "node:path";
import { runLocally } from "../../../ts/study/local.ts";
import { StudyStore } from "../../../ts/study/store.ts";

const store = new StudyStore(process.argv[2]!);
const command = [process.execPath, "--import=tsx", join(import.meta.dirname, "worker.ts")];
const onWorker = (pid: number | undefined) => process.stdout.write(`worker ${pid}\n`);
const finished = await runLocally(await store.plan(), store, { command, jobs: 2, threads: 1, onWorker });
process.exitCode = finished ? 0 : 75;
