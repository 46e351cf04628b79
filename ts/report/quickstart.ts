import { median } from "../base/statistics.ts";
import type { QuickstartDecay } from "../study/quickstart.ts";
import { formatTable } from "./table.ts";

/** Median over the decays of their drop less the control's; null of none. */
export const medianGain = (decays: readonly QuickstartDecay[]): number | null =>
  median(decays.map(({ drop, controlDrop }) => drop - controlDrop));

/** A line for each decay: losses before and after it, beside the control's at the same steps. */
export function decayTable(decays: readonly QuickstartDecay[]): string {
  const titles = ["budget", "seed", "steps", "before decay", "after decay", "drop", "control", "control drop"];
  const nats = (value: number): string => value.toFixed(4);
  return formatTable(
    titles.map((title) => ({ title, align: "right" as const })),
    decays
      .toSorted((a, b) => a.budget - b.budget || a.seed.localeCompare(b.seed))
      .map((d) => [
        String(d.budget + 1),
        d.seed,
        `${d.start} - ${d.end}`,
        nats(d.before),
        nats(d.after),
        nats(d.drop),
        nats(d.control),
        nats(d.controlDrop),
      ]),
  );
}
