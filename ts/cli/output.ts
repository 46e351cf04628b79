import { styleText } from "node:util";
import { fileReason } from "../base/errors.ts";

/** Text on standard output; with --json only JSON goes there. */
export function print(text: string): void {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** For people, never for programs: goes to standard error. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** What the system was asked to do, by its call. */
const fileVerbs: Record<string, string> = {
  open: "open",
  mkdir: "make",
  scandir: "list",
  rename: "rename",
  unlink: "remove",
};

function messageOf(error: unknown): string {
  const reason = fileReason(error);
  if (reason === null) return error instanceof Error ? error.message : String(error);
  const { path, syscall, code } = error as NodeJS.ErrnoException;
  // Node makes folders one below the other, and on a read-only disk says that the last one's parent is missing.
  const why = syscall === "mkdir" && code === "ENOENT" ? "the disk is read-only, or not there" : reason;
  return `cannot ${fileVerbs[syscall!] ?? syscall}${path === undefined ? "" : ` ${path}`}: ${why} (${code}).`;
}

/** One clear error on standard error. A stack is shown for errors that are not meant for the user, or on request. */
export function printError(error: unknown): void {
  const known = error instanceof Error && (error as { code?: unknown }).code !== undefined;
  const usage = error instanceof Error && !known && error.name === "YError";
  const message = messageOf(error);
  const colored = process.stderr.isTTY && process.env.NO_COLOR === undefined;
  note(`${colored ? styleText("red", "error:") : "error:"} ${message}`);
  if (error instanceof Error && ((!known && !usage && error.name !== "Error") || process.env.THALWEG_DEBUG))
    note(error.stack ?? "");
}
