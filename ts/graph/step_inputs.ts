/**
 * What changes between replays of a Program without rebuilding it: two small device tensors. Order is the contract with
 * native/ops/step_inputs.h (generated from here).
 */
export const scalarNames = [
  "lr", // learning rate of this step
  "beta1",
  "beta2",
  "eps",
  "bias1", // 1 / (1 - beta1^t), t = 1 at the first update
  "bias2", // 1 / (1 - beta2^t)
  "weightDecay", // decoupled, multiplied by lr (Loshchilov & Hutter 2019)
  "clip", // maximum global gradient norm, 0 = no clipping
  "averageDecay", // of the moving average of the weights
  "lossScale", // 1 / valid target tokens of the whole step
] as const;

export const integerNames = [
  "firstMicroBatch", // 1: accumulators marked `accumulate = 2` are overwritten instead of added to
  "positionOffset", // position of row 0 of every sequence (rope)
  "cacheLength", // tokens already in the key/value cache (attentionDecode)
] as const;

export type ScalarName = (typeof scalarNames)[number];
export type IntegerName = (typeof integerNames)[number];

/** Values of the `accumulate` attribute of ops that write gradients. */
export const Accumulate = { overwrite: 0, add: 1, addUnlessFirst: 2 } as const;
