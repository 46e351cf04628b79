// Results of a part of the suite, on disk after every measurement, and the time it may take.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** Replaces a file whole: a reader sees the old content or the new. */
export function writeWhole(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(`${path}.tmp`, "w");
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
  renameSync(`${path}.tmp`, path);
}

export const writeJson = (path, value) => writeWhole(path, `${JSON.stringify(value, null, 1)}\n`);
export const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

/** Seconds that measurements may take together; `now` gives seconds. */
export class Budget {
  #end;
  #now;
  constructor(seconds, now = () => performance.now() / 1000) {
    this.#now = now;
    this.#end = now() + seconds;
  }
  left() {
    return Math.max(0, this.#end - this.#now());
  }
  /** Whether something of about so many seconds may be begun. */
  allows(seconds) {
    return seconds <= this.left();
  }
}

/** What a result is about: measurements of other code or another device are not gone on with. */
const sameSubject = (a, b) =>
  ["commit", "ptxHash", "device"].every((key) => JSON.stringify(a?.[key]) === JSON.stringify(b[key]));

/**
 * Runs the jobs of a part, { name, seconds, limit, run(secondsLeft) } with `seconds` an estimate and `limit` what it may take
 * at most (else a minute, or three times the estimate): a kernel that hangs must not take the others' time. Writes `path` after
 * each one.
 * Jobs that the budget does not allow, and those that come back `unfinished` because their time was up, are named in `left`; a
 * later run with the same subject goes on with those. A failed job is measured again. Returns what was written: { part, ...subject, complete, ok, left, results }.
 */
export async function runPart({ part, subject, jobs, budget, path, say = () => {} }) {
  const before = existsSync(path) ? readJson(path) : null;
  const kept = sameSubject(before, subject) ? before.results : {};
  const record = { part, ...subject, complete: false, ok: true, left: [], results: {} };
  for (const { name } of jobs) if (kept[name]?.ok && !kept[name].unfinished) record.results[name] = kept[name];
  for (const [i, job] of jobs.entries()) {
    if (record.results[job.name]) continue;
    if (!budget.allows(job.seconds)) {
      record.left.push(job.name);
      continue;
    }
    say(`${part} [${i + 1}/${jobs.length}] ${job.name} (about ${job.seconds} s, ${Math.round(budget.left())} s left)`);
    const start = performance.now();
    let result;
    try {
      result = await job.run(Math.min(budget.left(), job.limit ?? Math.max(60, 3 * job.seconds)));
    } catch (error) {
      result = { ok: false, error: String(error.message ?? error) };
    }
    record.results[job.name] = { ...result, tookSeconds: Number(((performance.now() - start) / 1000).toFixed(1)) };
    if (result.unfinished) record.left.push(job.name);
    if (!result.ok) say(`  FAIL ${job.name}: ${result.error ?? "see the result"}`);
    writeJson(path, record);
  }
  record.complete = record.left.length === 0;
  record.ok = Object.values(record.results).every((r) => r.ok);
  writeJson(path, record);
  return record;
}
