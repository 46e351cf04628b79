import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { quoted } from "../base/shell.ts";
import { groupBy } from "./group.ts";
import type { PlannedSegment, StudyPlan } from "./plan.ts";
import { type StudyStore, standings } from "./store.ts";

/** One job array: task i goes on from task i of the array that it depends on. */
export interface SlurmArray {
  readonly index: number;
  /** Index of the array before it; null: nothing to wait for. */
  readonly after: number | null;
  /** Task number to segment. */
  readonly tasks: ReadonlyMap<number, PlannedSegment>;
}

/**
 * The tree as job arrays. All roots are one array; the c-th children of an array's tasks are one array each, with the task
 * numbers of their parents, so that Slurm's `aftercorr` starts each task when its own parent is done. Arrays in which
 * nothing is missing are left out.
 */
export function slurmArrays(plan: StudyPlan, isMissing: (segment: PlannedSegment) => boolean): SlurmArray[] {
  const children = groupBy(plan.segments, (s) => s.parent);
  const arrays: SlurmArray[] = [];
  const visit = (tasks: ReadonlyMap<number, PlannedSegment>, after: number | null): void => {
    const needed = [...tasks.values()].some(isMissing);
    const index = needed ? arrays.length : after;
    if (needed) arrays.push({ index: arrays.length, after, tasks });
    const widest = Math.max(0, ...[...tasks.values()].map(({ id }) => children.get(id)?.length ?? 0));
    for (let c = 0; c < widest; c++) {
      const next = new Map<number, PlannedSegment>();
      for (const [task, { id }] of tasks) {
        const child = children.get(id)?.[c];
        if (child) next.set(task, child);
      }
      visit(next, index);
    }
  };
  visit(new Map((children.get(null) ?? []).map((segment, task) => [task, segment])), null);
  return arrays;
}

export interface SlurmOptions {
  /** The command line that works on one segment, before the folder: `thalweg study work`. */
  command: readonly string[];
  /** Folder that jobs run in: paths of data are relative to it. */
  directory: string;
}

/** The batch script of an array. */
export function slurmScript(array: SlurmArray, plan: StudyPlan, store: StudyStore, options: SlurmOptions): string {
  const { slurm, threads } = plan.spec.execution;
  const numbers = [...array.tasks.keys()];
  const most = slurm.concurrent === undefined ? "" : `%${slurm.concurrent}`;
  const command = slurm.command ?? options.command.map(quoted).join(" ");
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
  const threadsText = threads === "auto" ? "${SLURM_CPUS_PER_TASK:-0}" : String(threads);
  const cases = [...array.tasks].map(([task, { id, label }]) => `  ${task}) segment=${id} ;; # ${label}`);
  return `#!/bin/bash
#SBATCH --job-name=${plan.spec.name}
#SBATCH --array=${rangeText(numbers)}${most}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@${slurm.warning}
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=${resolve(store.folder)}/logs/slurm-%A_%a.log
#SBATCH --chdir=${options.directory}
${slurm.sbatch.map((line) => `#SBATCH ${line}\n`).join("")}
case $SLURM_ARRAY_TASK_ID in
${cases.join("\n")}
esac
${slurm.before}
# The warning before the time limit, and the notice of a preemption: save, then stand in the queue again.
# SIGTERM, since SIGUSR1 opens Node's debugger in a worker that has only just begun.
warned=0
trap 'warned=1; kill -TERM $worker 2>/dev/null' USR1 TERM
${command} ${quoted(resolve(store.folder))} --segment "$segment" --threads "${threadsText}" &
worker=$!
# A trapped signal ends \`wait\` early: wait again until the worker itself has ended.
wait $worker; code=$?
while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done
if [ $warned -eq 1 ] && [ $code -ne 0 ]; then
  trap - USR1 TERM
  scontrol requeue "\${SLURM_ARRAY_JOB_ID}_\${SLURM_ARRAY_TASK_ID}"
fi
exit $code
`;
}

/** "0-3,5": neighbouring numbers as ranges. */
function rangeText(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const n of numbers.toSorted((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([a, b]) => (a === b ? String(a) : `${a}-${b}`)).join(",");
}

/** What was submitted, in slurm.json of the study's folder. */
interface Submitted {
  readonly jobs: readonly string[];
}

/**
 * Submits what a study lacks to Slurm and returns the ids of the arrays. Jobs train through the same locks and checkpoints
 * as local workers; one that is warned of its time limit saves and queues itself again.
 * @throws NO_SLURM when sbatch is not here or refuses; LOCKED while jobs of an earlier submission are queued.
 */
export async function submitToSlurm(plan: StudyPlan, store: StudyStore, options: SlurmOptions): Promise<string[]> {
  const file = join(store.folder, "slurm.json");
  await refuseTwice(file);
  await mkdir(join(store.folder, "logs"), { recursive: true });
  const all = await standings(plan, store);
  const arrays = slurmArrays(plan, ({ id }) => all.get(id) === "missing");
  const jobs: string[] = [];
  for (const array of arrays) {
    const script = slurmScript(array, plan, store, options);
    const dependency = array.after === null ? [] : [`--dependency=aftercorr:${jobs[array.after]}`];
    jobs.push(
      slurm("sbatch", ["--parsable", ...dependency], script)
        .split(";")[0]!
        .trim(),
    );
    await writeFileAtomic(file, `${JSON.stringify({ jobs } satisfies Submitted)}\n`);
  }
  return jobs;
}

/** Two submissions of one segment would wait for each other's locks. */
async function refuseTwice(file: string): Promise<void> {
  if (!existsSync(file)) return;
  const { jobs } = JSON.parse(await readFile(file, "utf8")) as Submitted;
  const queued = new Set(
    slurm("squeue", ["--noheader", "--format=%F"])
      .split("\n")
      .map((line) => line.trim()),
  );
  const left = jobs.filter((job) => queued.has(job));
  if (left.length > 0)
    throw new ThalwegError(
      "LOCKED",
      `jobs ${left.join(", ")} of an earlier submission are still queued. Wait for them, or remove them: scancel ${left.join(" ")}.`,
    );
}

function slurm(command: string, args: readonly string[], input = ""): string {
  const r = spawnSync(command, args, { input, encoding: "utf8" });
  if (r.error || r.status !== 0)
    throw new ThalwegError(
      "NO_SLURM",
      `${command} ${r.error ? `cannot be started: ${r.error.message}` : `failed: ${r.stderr.trim()}`}. The Slurm executor needs sbatch, squeue and scontrol where it runs.`,
    );
  return r.stdout;
}
