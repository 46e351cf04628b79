import { z } from "zod";

/**
 * A length of training as people write it. A whole number is a count of steps, a number strictly between 0 and 1 a share
 * of the whole schedule; text carries its unit: "30 steps", "10%", "52.4B tokens", "12.8M sequences", "1e18 FLOPs" (K, M,
 * B and T are powers of 1000).
 */
export type Duration = number | string;

/** A duration taken apart: the amount and what it counts. */
export interface ParsedDuration {
  amount: number;
  unit: "steps" | "tokens" | "sequences" | "flops" | "share";
}

const durationPattern =
  /^\s*(\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)\s*([KMBT])?\s*(steps?|tokens?|sequences?|flops?|%)\s*$/i;
const thousands: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };

/** Takes a duration apart; undefined when it is none. Step counts must be whole. */
export function parseDuration(value: unknown): ParsedDuration | undefined {
  if (typeof value === "number") {
    if (Number.isSafeInteger(value) && value >= 0) return { amount: value, unit: "steps" };
    return value > 0 && value < 1 ? { amount: value, unit: "share" } : undefined;
  }
  const match = typeof value === "string" ? durationPattern.exec(value) : null;
  if (!match) return undefined;
  // 52.4 * 1e9 is not a whole number in binary; a count of tokens or steps is rounded back to one.
  const scaled = Number(match[1]!.replaceAll("_", "")) * (thousands[match[2]?.toUpperCase() ?? ""] ?? 1);
  const unit = match[3]!.toLowerCase();
  if (unit === "%") return match[2] || scaled > 100 ? undefined : { amount: scaled / 100, unit: "share" };
  const amount = Math.abs(scaled - Math.round(scaled)) < 1e-6 * Math.max(1, scaled) ? Math.round(scaled) : scaled;
  // FLOPs of a run are far beyond 2^53; they are only ever divided.
  if (unit.startsWith("flop"))
    return scaled > 0 && Number.isFinite(scaled) ? { amount: scaled, unit: "flops" } : undefined;
  if (!Number.isSafeInteger(amount)) return undefined;
  return { amount, unit: unit.startsWith("step") ? "steps" : unit.startsWith("token") ? "tokens" : "sequences" };
}

const durationText = 'a number of steps, a share between 0 and 1, or text such as "30 steps", "10%" or "52.4B tokens"';

export const durationSchema = z
  .union([z.number(), z.string()], durationText)
  .refine((value) => parseDuration(value) !== undefined, durationText)
  .meta({ examples: [30, 0.1, "30 steps", "10%", "52.4B tokens"] });

const bytesPattern = /^\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?\s*$/i;
const byteUnits: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes from a whole number or text such as "8GiB" or "500 MB"; undefined when it is neither. */
export function parseBytes(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) && value > 0 ? value : undefined;
  const match = typeof value === "string" ? bytesPattern.exec(value) : null;
  if (!match) return undefined;
  const bytes = Math.floor(Number(match[1]) * byteUnits[(match[2] ?? "B").toLowerCase()]!);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

const bytesText = 'a number of bytes, or text such as "8GiB" or "500 MB"';

/** Bytes; the parsed value is a number. */
export const bytesSchema = z
  .union([z.number(), z.string()], bytesText)
  .refine((value) => parseBytes(value) !== undefined, bytesText)
  .transform((value) => parseBytes(value)!);
