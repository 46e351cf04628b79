import { ThalwegError } from "../base/errors.ts";
import { gradients } from "../graph/autograd.ts";
import { linear } from "../graph/functions.ts";
import { evaluationHead, head } from "../graph/head.ts";
import { average as averageOp, copy } from "../graph/ops/elementwise.ts";
import { linear as linearOp } from "../graph/ops/linear.ts";
import type { Tape, Tensor } from "../graph/tape.ts";
import type { ModelLayout, ProgramKind } from "./layout.ts";
import { headWeight, llama } from "./llama.ts";

interface Batch {
  batch: number;
  length: number;
}

type Recorder = (t: Tape, model: ModelLayout, batch: Batch) => void;

/** A tensor as it was laid out. */
function laid(t: Tape, model: ModelLayout, name: string): Tensor {
  const { dtype, shape } = model.layout.get(name);
  return t.persistent(name, dtype, shape);
}

const headOptions = ({ config, options }: ModelLayout) => ({
  vocab: config.vocab,
  zLoss: config.zLoss,
  chunkRows: options.headChunkRows,
  label: config.tied ? "model.embed_tokens" : "lm_head",
});

/** Hidden states [batch * length, dim] of the tokens in io/tokens, with documents beginning as io/starts says. */
function hidden(t: Tape, model: ModelLayout, { batch, length }: Batch): Tensor {
  const rows = (name: string) => laid(t, model, name).rows(0, batch * length);
  const starts = model.options.attention === "documents" ? rows("io/starts") : undefined;
  const table = laid(t, model, "const/rope");
  return llama(t, model.config, rows("io/tokens"), { kind: "sequences", length, table, starts });
}

const targetsOf = (t: Tape, model: ModelLayout, { batch, length }: Batch): Tensor =>
  laid(t, model, "io/targets").rows(0, batch * length);

/** Forward and backward: adds into `grad` and, the sum of token losses, into out/loss. */
const accumulate: Recorder = (t, model, batch) => {
  const x = hidden(t, model, batch);
  const loss = laid(t, model, "out/loss");
  const dx = head(t, x, headWeight(t, model.config), targetsOf(t, model, batch), loss, headOptions(model));
  const { recompute = "none", gradientSums = "ordered" } = model.options;
  gradients(t, [[x, dx]], { recompute, sums: gradientSums });
};

const update: Recorder = (t, { parameters, layout, options }) => {
  if (!options.update)
    throw new ThalwegError("BAD_CONFIG", "an `update` Program needs options.update, e.g. adamw() of ts/optim");
  options.update(t, parameters, layout);
};

/** Moves the tape's parameter set towards "param", both as one flat tensor. */
const average: Recorder = (t, model) => {
  const inputs = { x: laid(t, model, "param"), status: laid(t, model, "out/status") };
  t.op(averageOp, inputs, {}, { label: "average", into: { y: laid(t, model, t.parameterSet) } });
};

/** Token losses into out/token_loss; their sum into out/eval_loss, overwritten when firstMicroBatch is 1, else added. */
const evaluate: Recorder = (t, model, batch) => {
  const x = hidden(t, model, batch);
  const losses = laid(t, model, "out/token_loss").rows(0, batch.batch * batch.length);
  const out = { losses, loss: laid(t, model, "out/eval_loss") };
  evaluationHead(t, x, headWeight(t, model.config), targetsOf(t, model, batch), out, headOptions(model));
};

/** Writes x weight^T as f32 into `out`, rounded to the compute precision first. */
function writeLogits(t: Tape, model: ModelLayout, x: Tensor, out: Tensor): void {
  const weight = headWeight(t, model.config);
  if (t.precision === "f32") t.op(linearOp, { x, weight }, {}, { into: { y: out } });
  else t.op(copy, { x: linear(x, weight) }, {}, { into: { y: out } });
}

/** One token of io/tokens at position cacheLength = positionOffset; its logits into out/logits. */
const decode: Recorder = (t, model) => {
  const caches = Array.from({ length: model.config.layers }, (_, i) => ({
    kCache: laid(t, model, `cache/k.${i}`),
    vCache: laid(t, model, `cache/v.${i}`),
  }));
  const tokens = laid(t, model, "io/tokens").rows(0, 1);
  const x = llama(t, model.config, tokens, { kind: "cache", table: laid(t, model, "const/rope"), caches });
  writeLogits(t, model, x, laid(t, model, "out/logits"));
};

/** All logits of a batch into the first rows of out/all_logits. */
const logits: Recorder = (t, model, batch) => {
  const out = laid(t, model, "out/all_logits").rows(0, batch.batch * batch.length);
  writeLogits(t, model, hidden(t, model, batch), out);
};

export const recorders: Readonly<Record<ProgramKind, Recorder>> = {
  accumulate,
  update,
  evaluate,
  decode,
  logits,
  average,
};
