import { join } from "node:path";
import { listCheckpoints } from "../train/checkpoint_folder.ts";
import { readCheckpoint } from "../train/checkpoint_verify.ts";
import { loadRun, summarize } from "../train/compare.ts";
import { formatBytes, formatCount } from "../train/format.ts";
import { readRunFile } from "../train/run_folder.ts";
import { budgetTable } from "./budgets.ts";
import { formatTable } from "./table.ts";

export interface Inspected {
  text: string;
  json: unknown;
}

/** A run directory: what was asked for, where it stands, its checkpoints, what the decays gained. */
export async function inspectRun(directory: string): Promise<Inspected> {
  const run = await loadRun(directory);
  const asked = await readRunFile(directory);
  const checkpoints = await listCheckpoints(join(directory, "checkpoints"));
  const summary = summarize(run);
  const nats = (v: number | null) => v?.toFixed(4) ?? "-";
  const rows = [
    ["started", asked?.startedAt ?? "-"],
    ["device", asked ? `${asked.device.name} (${asked.device.deviceClass})` : "-"],
    ["steps", formatCount(summary.steps)],
    ["tokens", formatCount(summary.tokens)],
    ["training loss", nats(summary.trainLoss)],
    ["validation loss", nats(summary.validationLoss)],
    ["checkpoints", checkpoints.map((c) => formatCount(c.step)).join(", ") || "none"],
    ...(asked?.lineage ?? []).map((l) => [
      `from step ${formatCount(l.fromStep)}`,
      `${l.reason}${l.parent ? ` of ${l.parent}` : ""}`,
    ]),
  ];
  const budgets = summary.decays.length > 0 ? `\n\n${budgetTable(run)}` : "";
  return { text: `${formatTable([run.name, ""], rows)}${budgets}`, json: { run: asked, summary, checkpoints } };
}

/** A checkpoint, after every file was hashed. */
export async function inspectCheckpoint(directory: string): Promise<Inspected> {
  const { state, manifest, bytes } = await readCheckpoint(directory);
  const { model } = state;
  const facts = formatTable(
    [directory, ""],
    [
      ["step", formatCount(state.step)],
      ["tokens", formatCount(state.tokens)],
      [
        "made",
        `${state.occasion}${state.budget === null ? "" : ` of budget ${state.budget + 1}`}, before ${state.phase}`,
      ],
      [
        "model",
        `dim ${model.dim}, ${model.layers} layers, ${model.heads} heads of ${model.headDim}, vocabulary ${model.vocab}`,
      ],
      ["device class", state.deviceClass],
      ["size", formatBytes(bytes)],
      ...state.lineage.map((l) => [
        `from step ${formatCount(l.fromStep)}`,
        `${l.reason}${l.parent ? ` of ${l.parent}` : ""}`,
      ]),
    ],
  );
  const files = formatTable(
    ["file", { title: "bytes", align: "right" }, "sha256"],
    Object.entries(manifest.files).map(([name, f]) => [name, formatCount(f.bytes), f.sha256]),
  );
  return { text: `${facts}\n\n${files}\nevery file is whole`, json: { state, manifest, bytes } };
}
