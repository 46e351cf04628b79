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

/** What a file system says, in words, by its code: of what was named on the command line, or of the machine. */
const fileReasons: Record<string, readonly [reason: string, exit: number]> = {
  ENOENT: ["there is no such file or folder", ExitCode.usage],
  ENOTDIR: ["a part of the path is a file", ExitCode.usage],
  EISDIR: ["it is a folder", ExitCode.usage],
  EEXIST: ["a file of that name is in the way", ExitCode.usage],
  EACCES: ["permission denied", ExitCode.usage],
  EPERM: ["not permitted", ExitCode.usage],
  EROFS: ["the file system is read-only", ExitCode.usage],
  ENAMETOOLONG: ["the name is too long", ExitCode.usage],
  ENOSPC: ["the disk is full", ExitCode.internal],
  EDQUOT: ["the quota of the disk is used up", ExitCode.internal],
  EMFILE: ["too many files are open (ulimit -n)", ExitCode.internal],
  EIO: ["the disk cannot be read or written", ExitCode.internal],
};

/** Why the file system refused, in words; null for an error that is none of its own. */
export function fileReason(error: unknown): string | null {
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (typeof code !== "string" || syscall === undefined || syscall.startsWith("spawn")) return null;
  return fileReasons[code]?.[0] ?? null;
}

/** The exit code for any thrown value (errors of the native engine carry `.code` too). */
export function exitCodeOf(error: unknown): number {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === "string" && fileReason(error) !== null) return fileReasons[code]![1];
  return typeof code === "string" ? (exitByCode[code] ?? ExitCode.internal) : ExitCode.internal;
}
