import { classifier, sum } from "./ops/classifier.ts";
import { linear, linearDgrad, linearWgrad } from "./ops/linear.ts";
import { Accumulate } from "./step_inputs.ts";
import type { Tape, Tensor } from "./tape.ts";

export interface HeadOptions {
  /** Columns that are tokens; the rest of the weight's rows are padding. */
  vocab: number;
  zLoss: number;
  /** Rows whose logits exist at one time. Default: chunks of at most `logitsBudget` bytes. */
  chunkRows?: number | undefined;
  label?: string;
}

/**
 * Bytes of logits alive at one time when `chunkRows` is not given. Each chunk reads the head's weight and rewrites its
 * gradient once: at 50,257 x 768 fewer, larger chunks are worth several percent of a step, see docs/log.md.
 */
export const logitsBudget = 256 * 2 ** 20;

/** Even chunks of a multiple of 64 rows (so that row views keep their alignment) under the logits budget. */
export function defaultChunkRows(rows: number, columns: number, elementBytes: number): number {
  const most = Math.max(64, Math.floor(logitsBudget / (columns * elementBytes)));
  const chunks = Math.ceil(rows / most);
  return Math.min(rows, Math.ceil(rows / chunks / 64) * 64);
}

function* chunksOf(rows: number, size: number): Generator<readonly [number, number]> {
  for (let start = 0; start < rows; start += size) yield [start, Math.min(size, rows - start)];
}

const chunkRowsOf = (x: Tensor, weight: Tensor, given: number | undefined): number =>
  Math.max(1, given ?? defaultChunkRows(x.shape[0]!, weight.shape[0]!, x.dtype === "f32" ? 4 : 2));

/**
 * Loss head of training: cross-entropy of x [rows, dim] weight [columns, dim]^T against targets [rows], and at once its
 * gradients, chunk by chunk of rows, so that the logits of the whole batch never exist (gradient over the logits, as
 * in Liger Kernel's fused linear cross-entropy, Hsu et al. 2024). Adds into the weight's gradient and the sum of token
 * losses into `loss` f32 [1]; returns dx [rows, dim], the gradient of lossScale * loss with respect to x.
 */
export function head(t: Tape, x: Tensor, weight: Tensor, targets: Tensor, loss: Tensor, options: HeadOptions): Tensor {
  const { vocab, zLoss, label = "head" } = options;
  const rows = x.shape[0]!;
  const dx = t.purpose("gradients", () => t.empty(`${label}/dx`, x.dtype, x.shape));
  const losses = t.empty(`${label}/loss`, "f32", [rows]);
  const dweight = t.gradient(weight);
  const record = () => {
    for (const [start, count] of chunksOf(rows, chunkRowsOf(x, weight, options.chunkRows))) {
      const part = x.rows(start, count);
      const logits = t.op(linear, { x: part, weight }, {}, { label }).y;
      const { dlogits } = t.op(
        classifier,
        { logits, targets: targets.rows(start, count) },
        { vocab, zLoss },
        { label, into: { loss: losses.rows(start, count) }, wanted: ["dlogits"] },
      );
      const accumulate = t.firstWrite(dweight) ? Accumulate.addUnlessFirst : Accumulate.add;
      const backward = `backward/${label}`;
      t.op(linearDgrad, { dy: dlogits, weight }, {}, { label: backward, into: { dx: dx.rows(start, count) } });
      t.op(linearWgrad, { x: part, dy: dlogits }, { accumulate }, { label: backward, into: { dweight } });
    }
  };
  t.purpose("logits", record);
  addLoss(t, losses, loss, label);
  return dx;
}

/**
 * The head without gradients: token losses into `losses` f32 [rows], their sum into `loss` f32 [1], chunk by chunk.
 */
export function evaluationHead(
  t: Tape,
  x: Tensor,
  weight: Tensor,
  targets: Tensor,
  out: { losses: Tensor; loss: Tensor },
  options: HeadOptions,
): void {
  const { vocab, zLoss, label = "head" } = options;
  const rows = x.shape[0]!;
  t.purpose("logits", () => {
    for (const [start, count] of chunksOf(rows, chunkRowsOf(x, weight, options.chunkRows))) {
      const logits = t.op(linear, { x: x.rows(start, count), weight }, {}, { label }).y;
      const inputs = { logits, targets: targets.rows(start, count) };
      t.op(classifier, inputs, { vocab, zLoss }, { label, into: { loss: out.losses.rows(start, count) } });
    }
  });
  addLoss(t, out.losses, out.loss, label);
}

function addLoss(t: Tape, losses: Tensor, loss: Tensor, label: string): void {
  const accumulate = t.firstWrite(loss) ? Accumulate.addUnlessFirst : Accumulate.add;
  t.op(sum, { x: losses }, { accumulate }, { label, into: { y: loss } });
}
