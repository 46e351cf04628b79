import { ThalwegError } from "../base/errors.ts";

/** Errors of the addon as ThalwegErrors with the same code and message; the original is the cause. */
export function asThalwegError(error: unknown): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  if (error instanceof ThalwegError || !(error instanceof Error) || typeof code !== "string") return error;
  return new ThalwegError(code, error.message, { cause: error });
}

/** Calls into the addon: what it throws, or rejects with, comes out as ThalwegError. */
export async function translated<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw asThalwegError(error);
  }
}
