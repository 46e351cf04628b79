import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { ThalwegError } from "./errors.ts";

/** Who holds a lock: what its file says, as JSON. */
export interface LockHolder {
  /** Drawn for each attempt, never used twice: one token is one file. */
  token: string;
  pid: number;
  host: string;
  /** One boot of one kernel and one table of process ids; processes that differ in it cannot look at each other. */
  place: string;
  /** Start of the process in clock ticks since the boot, so that a reused pid is not taken for the holder; null: unknown. */
  started: string | null;
  /** What the holder does, for people: "train". */
  purpose: string;
  /** Time of taking, ISO 8601. */
  since: string;
}

/** A lock that is held until it is released. */
export interface Lock {
  readonly path: string;
  /**
   * Makes sure that it is still held: somebody may have removed the file, or taken it over while this process stood still for
   * longer than the others' patience. @throws LOCKED when it is not
   */
  check(): Promise<void>;
  /** Gives the lock back; releasing twice does nothing. */
  release(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface LockOptions {
  /** What the holder does; others read it in their error. */
  purpose: string;
  /** What is locked, for errors: "the run directory runs/a". Default: the file. */
  subject?: string;
  /** Milliseconds between two signs of life in the file. */
  beat?: number;
  /** Milliseconds without a sign of life after which a holder that cannot be looked at counts as gone. */
  patience?: number;
}

type Timing = Required<Pick<LockOptions, "beat" | "patience">>;

/**
 * Takes the lock file `path`, in a directory that exists. A holder that ended without releasing (a crash, a kill, a loss
 * of power) is found out and its lock taken over: on the same machine by its pid and start time, elsewhere (another
 * host of a shared disk, another container) by the file's modification time, watched for `patience` ms because clocks of
 * two hosts cannot be compared.
 *
 * The file is created with O_EXCL. A stale lock with token t is replaced by renaming the file `path.t` over it, which is
 * itself taken by this same function: so one process at most replaces t, and it looks once more whether t is still there.
 * Once t is gone it never comes back, so a slow process can neither remove nor replace a younger lock.
 * @throws LOCKED naming the file, the holder and what to do.
 */
export async function acquireLock(path: string, options: LockOptions): Promise<Lock> {
  const { purpose, subject = path, beat = 10_000, patience = 40_000 } = options;
  const mine: LockHolder = {
    token: randomBytes(8).toString("hex"),
    pid: process.pid,
    host: hostname(),
    place: processPlace(),
    started: processState(process.pid)?.started ?? null,
    purpose,
    since: new Date().toISOString(),
  };
  const handle = await take(path, mine, { beat, patience }, { path, subject });
  return new HeldLock({ path, subject }, mine.token, handle, beat);
}

/**
 * Who holds the lock `path`, as far as can be told at once: a holder elsewhere counts as alive. Null when nobody does, or when
 * the holder has ended without releasing.
 */
export async function lockHolder(path: string): Promise<LockHolder | null> {
  const holder = (await look(path))?.holder ?? null;
  return holder?.place === processPlace() && !isAlive(holder) ? null : holder;
}

/** The lock that errors speak of: its file, and what it locks. */
interface Asked {
  path: string;
  subject: string;
}

class HeldLock implements Lock {
  readonly path: string;
  readonly #asked: Asked;
  readonly #token: string;
  readonly #handle: FileHandle;
  readonly #timer: NodeJS.Timeout;
  #released: Promise<void> | null = null;

  constructor(asked: Asked, token: string, handle: FileHandle, beat: number) {
    this.path = asked.path;
    this.#asked = asked;
    this.#token = token;
    this.#handle = handle;
    // Through the handle: it touches this lock's file even if somebody has put another one in its place.
    const touch = () => handle.utimes(new Date(), new Date()).catch(() => undefined);
    this.#timer = setInterval(touch, beat).unref();
  }

  async check(): Promise<void> {
    const seen = await look(this.path).catch(() => "unknown" as const); // a disk that stumbles says nothing of the lock
    if (seen === "unknown" || seen?.token === this.#token) return;
    const { path, subject } = this.#asked;
    const now = seen === null ? `${path} was removed` : `${path} is held by ${nameOf(seen)} now`;
    throw new ThalwegError(
      "LOCKED",
      `${subject} is no longer locked by this process: ${now}. It stops without writing more, since another one may be at work there.`,
    );
  }

  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  async #release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#handle.close();
    const seen = await look(this.path);
    if (seen?.token === this.#token) await rm(this.path, { force: true });
  }
}

/**
 * Creates the file of `mine` at `path`, over a stale one if there is one; the handle stays open for signs of life.
 */
async function take(path: string, mine: LockHolder, timing: Timing, asked: Asked): Promise<FileHandle> {
  for (;;) {
    const handle = await create(path, mine);
    if (handle) return handle;
    const seen = await look(path);
    if (seen === null) continue; // released between the two calls
    if (!(await isGone(path, seen, timing))) throw locked(asked, seen);
    const claim = `${path}.${seen.token}`;
    const claimed = await take(claim, mine, timing, asked);
    if ((await look(path))?.token === seen.token) {
      await rename(claim, path);
      return claimed;
    }
    await claimed.close();
    await rm(claim, { force: true });
  }
}

/** Null when the file is there already. */
async function create(path: string, mine: LockHolder): Promise<FileHandle | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, "wx");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return null;
    throw error;
  }
  try {
    await handle.writeFile(`${JSON.stringify(mine)}\n`);
    return handle;
  } catch (error) {
    await handle.close();
    await rm(path, { force: true });
    throw error;
  }
}

/** What is seen of a lock file: its holder (null in a file without its whole content), its identity, its last change. */
interface Sight {
  token: string;
  holder: LockHolder | null;
  /** Modification time, nanoseconds. */
  changed: bigint;
}

/** Null when there is no file. Opening it anew also makes a network file system ask its server. */
async function look(path: string): Promise<Sight | null> {
  try {
    const handle = await open(path, "r");
    try {
      const { ino, birthtimeNs, mtimeNs } = await handle.stat({ bigint: true });
      const holder = parse(await handle.readFile("utf8"));
      return { token: holder?.token ?? `torn-${ino}-${birthtimeNs}`, holder, changed: mtimeNs };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function parse(text: string): LockHolder | null {
  try {
    const holder = JSON.parse(text) as LockHolder | null;
    return /^[0-9a-f]{16}$/.test(holder?.token ?? "") ? holder : null;
  } catch {
    return null;
  }
}

async function isGone(path: string, seen: Sight, { beat, patience }: Timing): Promise<boolean> {
  const { holder } = seen;
  if (holder && holder.place === processPlace()) return !isAlive(holder);
  for (let waited = 0; waited < patience; waited += Math.min(beat, 1000)) {
    await sleep(Math.min(beat, 1000));
    const now = await look(path);
    if (now === null || now.token !== seen.token) return true; // the caller looks again
    if (now.changed !== seen.changed) return false;
  }
  return true;
}

function isAlive({ pid, started }: LockHolder): boolean {
  const state = processState(pid);
  if (state) return !state.ended && (started === null || state.started === started);
  if (started !== null) return false; // /proc told the start, and now knows no such process
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** From Linux' /proc; null when the process, or /proc, is not there. A zombie has ended. */
function processState(pid: number): { started: string; ended: boolean } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field, the name in parentheses, may hold spaces; after it come fields 3 (state) to 22 (start) and more.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { started: fields[19]!, ended: fields[0] === "Z" || fields[0] === "X" };
  } catch {
    return null;
  }
}

function processPlace(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname(); // no /proc: pids can be asked for on this host, and a reboot is not noticed
  }
}

const nameOf = ({ holder }: Sight): string =>
  holder
    ? `process ${holder.pid} on ${holder.host}, "${holder.purpose}", since ${holder.since}`
    : "a process that is just taking it";

function locked({ path, subject }: Asked, seen: Sight): ThalwegError {
  return new ThalwegError(
    "LOCKED",
    `${subject} is held by ${nameOf(seen)}. Wait until it ends, or stop it, or use another directory; if you know that it is gone, remove ${path}.`,
  );
}
