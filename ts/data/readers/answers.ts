import type { ChildProcess } from "node:child_process";
import { Worker } from "node:worker_threads";

/**
 * What a decoder in a process or thread of its own says next, or why it says nothing: it failed, ended, or was silent for
 * `patience` seconds. To be called together with the question.
 */
export function nextAnswer<T extends object>(
  decoder: ChildProcess | Worker,
  patience: number,
): Promise<T | { error: string }> {
  // A process may exit before all that it said has been read; its channel closes afterwards.
  const end = decoder instanceof Worker ? "exit" : "disconnect";
  return new Promise((resolve) => {
    const settle = (found: T | { error: string }) => {
      clearInterval(timer);
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
    decoder.on("message", settle).on("error", failed).on(end, ended);
  });
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
