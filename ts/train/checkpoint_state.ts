import type { Interruption } from "../config/schedule_parts.ts";
import type { RunConfig } from "../config/schema.ts";
import type { LlamaConfig } from "../model/llama.ts";
import type { Occasion } from "./records.ts";

export const STATE_VERSION = 1;

/**
 * Raised by hand when a change of the engine changes the bits of a training step, so that a continuation which cannot be
 * bit-identical is known as such.
 */
export const NUMERICS_VERSION = 2;

/** One stretch of a run's history: from `fromStep` on, these values held. */
export interface LineageEntry {
  fromStep: number;
  /**
   * start: new weights; init: weights from a file; fork: another run's state under a new plan; decay: ordered while the run was
   * under way; others: a resume.
   */
  reason: "start" | "init" | "fork" | "resume" | "replace" | "extend" | "decay";
  /** The checkpoint it went on from, as it was named; null at a start. */
  parent: string | null;
  scheduleHash: string;
  /** Canonical text of the schedule spec and its units; with the step it gives every realised value. */
  schedule: string;
  /** The decay that begins here, for `decay` and for a fork that begins with one. */
  spec?: Interruption;
  /** Fields of the configuration that changed here, for `replace`. */
  changed?: string[];
}

/** state.json: everything a bit-identical continuation needs beside the tensors. */
export interface CheckpointState {
  version: typeof STATE_VERSION;
  /** Finished updates. */
  step: number;
  tokens: number;
  occasion: Occasion;
  /** Phase of the schedule that the next step belongs to. */
  phase: string;
  /** Index of the budget whose decay starts or ends here; null otherwise. */
  budget: number | null;
  /** Where the next sequence stands in the data order, independent of batches and their split; see TokenLoader. */
  data: { position: number; offset: number; hash: string; seed: number };
  seed: number;
  model: LlamaConfig;
  /** Sequences computed at once: the split decides the order of sums, so a continuation keeps it. */
  microBatch: number;
  schedule: { canonical: string; hash: string };
  /** Resolved configuration of the run that wrote this. */
  config: RunConfig;
  configHash: string;
  lineage: LineageEntry[];
  /** Of merged weights: what was averaged. Such a checkpoint has no optimizer state. */
  merged?: { path: string; step: number; weight: number }[];
  deviceClass: string;
  numericsVersion: number;
}

/** Folder name of the checkpoint after `step` updates. */
export const checkpointName = (step: number): string => `step-${String(step).padStart(8, "0")}`;

/** The step of a checkpoint folder's name; null when the name is none. */
export function stepOfName(name: string): number | null {
  const match = /^step-(\d{8,})$/.exec(name);
  return match ? Number(match[1]) : null;
}
