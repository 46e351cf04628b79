import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";

/** Memory of a process that decodes above which it is given up, in MiB. */
const largestProcess = 3072;
/** Milliseconds between looks at that memory: it cannot grow by much meanwhile. */
const lookEvery = 100;

/**
 * What a decoder in a process or thread of its own says next, or why it says nothing: it failed, ended, was silent for
 * `patience` seconds or, as a process, took more than `memory` MiB. To be called together with the question. A decoder that was
 * given up goes on with its work: it is the caller's to end.
 */
export function nextAnswer<T extends object>(
  decoder: ChildProcess | Worker,
  patience: number,
  memory = largestProcess,
): Promise<T | { error: string }> {
  // A process may exit before all that it said has been read; its channel closes afterwards.
  const end = decoder instanceof Worker ? "exit" : "disconnect";
  return new Promise((resolve) => {
    const settle = (found: T | { error: string }) => {
      clearInterval(timer);
      clearInterval(watch);
      decoder.off("message", settle).off("error", failed).off(end, ended);
      resolve(found);
    };
    const failed = (error: unknown) => settle({ error: String(error) });
    const ended = () => settle({ error: "the decoder ended, for want of memory perhaps" });
    // Counted in tenths: time in which this process itself stood still is not held against the decoder.
    let tenths = 0;
    const timer = setInterval(() => {
      if (++tenths === 10) settle({ error: `no end in ${patience} s` });
    }, 100 * patience);
    const watch = setInterval(() => {
      if (residentMebibytes(decoder) > memory) settle({ error: `the decoder took more than ${memory} MiB of memory` });
    }, lookEvery);
    decoder.on("message", settle).on("error", failed).on(end, ended);
  });
}

/** Of a process, as Linux' /proc tells; 0 of a thread, and where nothing is told. */
function residentMebibytes(decoder: ChildProcess | Worker): number {
  if (decoder instanceof Worker) return 0;
  try {
    const status = readFileSync(`/proc/${decoder.pid}/status`, "utf8");
    return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

const loaders = /^(?:--import|--require|-r|--loader|--experimental-loader|--conditions|-C)(=|$)/;

/**
 * The arguments of Node that say how modules are loaded, for a process that loads ours: those of `process.execArgv` without
 * a script (`-e`), a debugger's port and the like, which belong to this process alone.
 */
export function loaderArguments(all: readonly string[]): string[] {
  return all.flatMap((argument, i) => {
    const found = loaders.exec(argument);
    if (!found) return [];
    return found[1] === "=" ? [argument] : all.slice(i, i + 2);
  });
}
