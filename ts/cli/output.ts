import { styleText } from "node:util";

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

/** One clear error on standard error. A stack is shown for errors that are not meant for the user, or on request. */
export function printError(error: unknown): void {
  const known = error instanceof Error && (error as { code?: unknown }).code !== undefined;
  const usage = error instanceof Error && !known && error.name === "YError";
  const message = error instanceof Error ? error.message : String(error);
  const colored = process.stderr.isTTY && process.env.NO_COLOR === undefined;
  note(`${colored ? styleText("red", "error:") : "error:"} ${message}`);
  if (error instanceof Error && ((!known && !usage && error.name !== "Error") || process.env.THALWEG_DEBUG))
    note(error.stack ?? "");
}
