/** Exit codes of every command. */
export const ExitCode = {
  ok: 0,
  internal: 1,
  usage: 2,
  diverged: 3,
  outOfMemory: 4,
  corrupt: 5,
  noDevice: 6,
  savedRunAgain: 75,
} as const;

const exitByCode: Record<string, number> = {
  BAD_CONFIG: ExitCode.usage,
  BAD_OPTION: ExitCode.usage,
  BAD_INPUT: ExitCode.usage,
  LOCKED: ExitCode.usage,
  NOT_FINITE: ExitCode.diverged,
  OUT_OF_MEMORY: ExitCode.outOfMemory,
  CUDA_OUT_OF_MEMORY: ExitCode.outOfMemory,
  CORRUPT_CHECKPOINT: ExitCode.corrupt,
  CORRUPT_DATA: ExitCode.corrupt,
  NO_DEVICE: ExitCode.noDevice,
  NO_ADDON: ExitCode.noDevice,
};

/**
 * An error meant for the user: one message that names the field or file, what was found, what was expected and what to
 * do. `code` is stable; the command line turns it into an exit code.
 */
export class ThalwegError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "ThalwegError";
    this.code = code;
  }
}

/** The exit code for any thrown value (errors of the native engine carry `.code` too). */
export function exitCodeOf(error: unknown): number {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? (exitByCode[code] ?? ExitCode.internal) : ExitCode.internal;
}
