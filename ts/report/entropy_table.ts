import type { SetLoss } from "../train/records.ts";
import { formatTable } from "./table.ts";

/** Losses by the true entropy of the token, one table of all sets that know it; empty when none does. */
export function formatEntropyClasses(sets: Readonly<Record<string, SetLoss>>): string {
  const right = (title: string) => ({ title, align: "right" as const });
  const rows = Object.entries(sets).flatMap(([name, { byEntropy }]) =>
    (byEntropy ?? []).map(({ above, upTo, tokens, loss, entropy }) => [
      name,
      upTo === null ? `above ${above}` : above === null ? `up to ${upTo}` : `${above} to ${upTo}`,
      String(tokens),
      loss.toFixed(4),
      entropy.toFixed(4),
      (loss - entropy).toFixed(4),
    ]),
  );
  if (rows.length === 0) return "";
  const columns = [right("tokens"), right("loss"), right("true entropy"), right("loss above it")];
  return formatTable(["set", "entropy, nats", ...columns], rows);
}
