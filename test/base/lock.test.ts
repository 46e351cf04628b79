import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import { acquireLock, type LockHolder, lockHolder } from "../../ts/base/lock.ts";

const folder = mkdtempSync(join(tmpdir(), "thalweg-lock-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const holderOf = (path: string) => JSON.parse(readFileSync(path, "utf8")) as LockHolder;

/** A process that takes the lock when it is told to go. */
async function taker(path: string, hold?: number) {
  const args = ["--import=tsx", join(import.meta.dirname, "child.ts"), path, ...(hold ? [String(hold)] : [])];
  const process_: ChildProcess = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  process_.stdout!.on("data", (piece) => (text += piece));
  const says = async (wanted: RegExp) => {
    while (!wanted.test(text)) await once(process_.stdout!, "data");
    return wanted.exec(text)![0];
  };
  await says(/ready/);
  return { process: process_, says, go: () => process_.stdin!.write("go\n") };
}

test("a lock is held once, the refusal names file, holder and purpose with exit 2, and it can be had again", async (t) => {
  const path = join(folder, "once.lock");
  const first = await acquireLock(path, { purpose: "a first user" });
  const error = await t.throwsAsync(() => acquireLock(path, { purpose: "second" }), { code: "LOCKED" });
  for (const part of [path, `process ${process.pid}`, "a first user"]) t.true(error.message.includes(part), part);
  t.is(exitCodeOf(error), 2);
  await first.release();
  await first.release();
  t.false(existsSync(path));
  await (await acquireLock(path, { purpose: "second" })).release();
});

test("the lock of a killed process is taken over at once, also before its parent has reaped it", async (t) => {
  const path = join(folder, "killed.lock");
  const { process: killed, says, go } = await taker(path);
  go();
  await says(/held/);
  await t.throwsAsync(() => acquireLock(path, { purpose: "test" }), { code: "LOCKED" });
  t.is((await lockHolder(path))?.pid, killed.pid);
  killed.kill("SIGKILL");
  // No turn of the event loop in between: the process is a zombie, or still ending.
  for (let lock = null; lock === null; ) {
    lock = await acquireLock(path, { purpose: "after" }).catch(() => null);
    if (lock) t.is(holderOf(path).purpose, "after");
    await lock?.release();
  }
  t.deepEqual(
    readdirSync(folder).filter((f) => f.startsWith("killed")),
    [],
  );
});

test("a holder finds out that its lock was removed or taken over, and leaves the other's alone", async (t) => {
  const path = join(folder, "lost.lock");
  const lock = await acquireLock(path, { purpose: "test", subject: "the place" });
  await t.notThrowsAsync(() => lock.check());
  const mine = readFileSync(path, "utf8");
  rmSync(path);
  await t.throwsAsync(() => lock.check(), { code: "LOCKED", message: /^the place is no longer .* was removed/ });
  mkdirSync(path); // cannot be read as a file: nothing is known
  await t.notThrowsAsync(() => lock.check());
  rmdirSync(path);
  const other = await acquireLock(path, { purpose: "another" });
  await t.throwsAsync(() => lock.check(), { code: "LOCKED", message: /is held by process \d+ on .*"another"/ });
  await lock.release();
  t.not(readFileSync(path, "utf8"), mine);
  await t.notThrowsAsync(() => other.check());
  await other.release();
  t.is(await lockHolder(path), null);
});

test("a reused pid is not taken for the holder", async (t) => {
  const path = join(folder, "reused.lock");
  const lock = await acquireLock(path, { purpose: "test" });
  const mine = holderOf(path);
  await lock.release();
  if (mine.started === null) return t.pass("no /proc here: the start of a process is not known");
  writeFileSync(path, JSON.stringify({ ...mine, started: String(Number(mine.started) - 1) }));
  t.is(await lockHolder(path), null, "its file is there, its holder is not");
  writeFileSync(path, JSON.stringify({ ...mine, place: "another boot", started: "1" }));
  t.is((await lockHolder(path))?.token, mine.token, "elsewhere nobody can tell at once");
  writeFileSync(path, JSON.stringify({ ...mine, started: String(Number(mine.started) - 1) }));
  const again = await acquireLock(path, { purpose: "test" });
  t.not(holderOf(path).token, mine.token);
  await again.release();
});

test("a holder elsewhere is gone after patience without a sign of life, and not before", async (t) => {
  const path = join(folder, "elsewhere.lock");
  const living = await acquireLock(path, { purpose: "far away", beat: 20 });
  writeFileSync(path, JSON.stringify({ ...holderOf(path), place: "another boot", host: "far" }));
  const timing = { purpose: "test", beat: 20, patience: 2000 };
  const error = await t.throwsAsync(() => acquireLock(path, timing), { code: "LOCKED" });
  t.true(error.message.includes("on far"));
  await living.release();
  const dead = { token: "0123456789abcdef", pid: 1, host: "far", place: "another boot", started: "1" };
  writeFileSync(path, JSON.stringify(dead));
  const lock = await acquireLock(path, { ...timing, patience: 100 });
  t.is(holderOf(path).pid, process.pid);
  await lock.release();
});

test("a torn lock file is taken over, a takeover that was itself cut short too", async (t) => {
  const path = join(folder, "torn.lock");
  writeFileSync(path, "");
  await (await acquireLock(path, { purpose: "test", beat: 20, patience: 100 })).release();
  const lock = await acquireLock(path, { purpose: "test" });
  const mine = holderOf(path);
  await lock.release();
  const [a, b] = ["a".repeat(16), "b".repeat(16)];
  const gone = { ...mine, pid: 2 ** 22 + 1, started: "1" };
  writeFileSync(path, JSON.stringify({ ...gone, token: a }));
  writeFileSync(`${path}.${a}`, JSON.stringify({ ...gone, token: b }));
  await (await acquireLock(path, { purpose: "test" })).release();
  t.deepEqual(
    readdirSync(folder).filter((f) => f.startsWith("torn")),
    [],
  );
});

test("of processes that find the same stale lock, one at a time holds it", async (t) => {
  const path = join(folder, "race.lock");
  const takers = await Promise.all([1, 2, 3, 4].map(() => taker(path)));
  const gone = { token: "c".repeat(16), pid: 2 ** 22 + 1, host: "", place: "", started: "1" };
  const lock = await acquireLock(path, { purpose: "test" });
  const { place } = holderOf(path);
  await lock.release();
  writeFileSync(path, JSON.stringify({ ...gone, place }));
  for (const { go } of takers) go();
  const said = await Promise.all(takers.map(({ says }) => says(/held|refused/)));
  for (const { process } of takers) process.kill("SIGKILL");
  t.is(said.filter((s) => s === "held").length, 1);
});

test("many takers within a process never overlap, over a lock that keeps going stale", async (t) => {
  const path = join(folder, "many.lock");
  const probe = await acquireLock(path, { purpose: "test" });
  const { place } = holderOf(path);
  await probe.release();
  let holding = 0;
  let held = 0;
  const one = async () => {
    while (held < 60) {
      const lock = await acquireLock(path, { purpose: "test" }).catch((error) => {
        if (error.code !== "LOCKED") throw error;
        return null;
      });
      if (!lock) continue;
      t.is(++holding, 1);
      held++;
      await new Promise((resolve) => setImmediate(resolve));
      holding--;
      // Every third holder dies: its file stays behind, with the pid of no process.
      if (held % 3 === 0) writeFileSync(path, JSON.stringify({ ...holderOf(path), pid: 2 ** 22 + 1, place }));
      else await lock.release();
    }
  };
  await Promise.all(Array.from({ length: 8 }, one));
});
