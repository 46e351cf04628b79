/** Signals that mean "save and stop": a user's Ctrl-C, a scheduler's notice, a batch system's warning. */
const watched = ["SIGINT", "SIGTERM", "SIGUSR1"] as const;
type Watched = (typeof watched)[number];

/** 128 + signal number, what a shell reports for a process ended by it. */
const exitAtOnce: Record<Watched, number> = { SIGINT: 130, SIGTERM: 143, SIGUSR1: 138 };

/**
 * First signal: `signal` aborts, the run saves its last finished step and the process exits 75. Second signal: the
 * process exits at once (130, 143). The command line owns one; a library that calls runTraining passes any AbortSignal.
 */
export class StopSignals {
  readonly #controller = new AbortController();
  readonly #exit: (code: number) => void;
  readonly #onFirst: (name: string) => void;
  /** Name of the first signal, null when none came. */
  received: string | null = null;

  /** `exit` and `onFirst` exist for tests and for the progress line. */
  constructor(options: { onFirst?: (name: string) => void; exit?: (code: number) => void } = {}) {
    this.#onFirst = options.onFirst ?? (() => undefined);
    this.#exit = options.exit ?? ((code) => process.exit(code));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  install(): this {
    for (const name of watched) process.on(name, this.#handle);
    return this;
  }

  dispose(): void {
    for (const name of watched) process.off(name, this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  readonly #handle = (name: string): void => {
    if (this.received !== null) {
      this.#exit(exitAtOnce[name as Watched] ?? 1);
      return;
    }
    this.received = name;
    this.#onFirst(name);
    this.#controller.abort(new Error(`stopped by ${name}`));
  };
}
