import { type CommandComparison, toleranceOf } from "../train/compare_devices.ts";
import { formatTable } from "./table.ts";

/** The commands in which two devices differ most, and whether all stay within tolerance. */
export function deviceComparison(
  found: readonly CommandComparison[],
  devices: readonly [string, string],
  precision: "f32" | "bf16",
): { text: string; ok: boolean } {
  const tolerance = toleranceOf(precision);
  const beyond = found.filter((c) => !(c.relativeError <= tolerance));
  const equal = found.filter((c) => c.relativeError === 0).length;
  const shown = found.toSorted((a, b) => b.relativeError - a.relativeError).slice(0, Math.max(12, beyond.length));
  const rows = shown.map((c) => [
    `${c.program} #${c.index}`,
    c.op,
    c.operand,
    c.relativeError.toExponential(1),
    c.largest.toExponential(1),
    c.relativeError <= tolerance ? "" : "beyond",
    c.label,
  ]);
  const head = ["command", "op", "operand", "relative error", "largest", "", "where"];
  const verdict =
    beyond.length === 0
      ? `all ${found.length} commands agree within ${tolerance} (${equal} bit for bit)`
      : `${beyond.length} of ${found.length} commands differ by more than ${tolerance}`;
  return { text: `${devices.join(" against ")}: ${verdict}\n${formatTable(head, rows)}`, ok: beyond.length === 0 };
}
