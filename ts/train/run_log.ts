import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { MetricsWriter } from "./metrics.ts";
import type { CheckpointRecord, EvaluationRecord, HeaderRecord, MetricsRecord, WarningRecord } from "./records.ts";
import type { Reporter } from "./reporter.ts";
import { METRICS_FILE } from "./run_folder.ts";
import { TensorBoardWriter } from "./tensorboard.ts";

export interface RunLogOptions {
  runDir: string;
  /** The step and the checkpoint that the run goes on from: records of later steps are dropped. null: it starts anew. */
  goesOn: { step: number; from: string } | null;
  header: HeaderRecord;
  tensorboard: boolean;
  reporter: Reporter;
}

/** Where the events of a run go: metrics.jsonl, TensorBoard on request, the reporter. */
export class RunLog {
  readonly #metrics: MetricsWriter;
  readonly #tensorboard: TensorBoardWriter | null;
  readonly #reporter: Reporter;
  /** What earlier starts of this run recorded, up to the step it goes on from. */
  readonly kept: readonly MetricsRecord[];
  readonly evaluations: EvaluationRecord[];
  readonly checkpoints: CheckpointRecord[];
  readonly warnings: WarningRecord[];

  private constructor(metrics: MetricsWriter, kept: MetricsRecord[], options: RunLogOptions) {
    const { runDir, tensorboard, reporter } = options;
    this.#metrics = metrics;
    this.#tensorboard = tensorboard ? new TensorBoardWriter(join(runDir, "tensorboard")) : null;
    this.#reporter = reporter;
    this.kept = kept;
    this.evaluations = kept.filter((r) => r.type === "evaluation");
    this.checkpoints = kept.filter((r) => r.type === "checkpoint");
    this.warnings = kept.filter((r) => r.type === "warning");
  }

  static async open(options: RunLogOptions): Promise<RunLog> {
    const { runDir, goesOn, header } = options;
    await mkdir(runDir, { recursive: true });
    const { writer, kept } = await MetricsWriter.reopen(join(runDir, METRICS_FILE), goesOn?.step ?? null);
    const log = new RunLog(writer, kept, options);
    if (!kept.some((r) => r.type === "header")) writer.append(header);
    if (goesOn) writer.append({ type: "resume", ...goesOn, startedAt: header.startedAt });
    return log;
  }

  /** Appends a record; the reporter hears of everything but steps, which the loop reports with their progress. */
  record(record: MetricsRecord): void {
    this.#metrics.append(record);
    if (record.type === "step")
      this.#tensorboard?.scalars(record.step, {
        "train/loss": record.loss,
        "train/lr": record.lr,
        "train/gradient norm": record.gradNorm,
        "train/tokens per second": record.tokensPerSecond,
      });
    else if (record.type === "evaluation") {
      this.evaluations.push(record);
      this.#tensorboard?.scalars(record.step, { "validation/loss": record.loss });
      this.#reporter.evaluation(record);
    } else if (record.type === "checkpoint") {
      this.checkpoints.push(record);
      this.#reporter.checkpoint(record);
    } else if (record.type === "warning") {
      this.warnings.push(record);
      this.#reporter.warning(record);
    }
  }

  flush(): Promise<void> {
    return this.#metrics.flush(true);
  }

  async close(): Promise<void> {
    await this.#metrics.close();
    this.#tensorboard?.close();
    const { failure } = this.#metrics;
    if (failure !== null) this.#reporter.note(`warning: metrics.jsonl is incomplete: ${failure.message}`);
    this.#reporter.end();
  }
}
