/** Text to batches: see docs/data.md. */
export { Dataset, type OpenOptions, openDataset } from "./dataset.ts";
export type { Document, ReadReport } from "./documents.ts";
export { type Inspection, type InspectOptions, inspectDataset } from "./inspect.ts";
export {
  type Batch,
  fixedBatches,
  ignoredTarget,
  type LoaderOptions,
  type LoaderSource,
  TokenLoader,
} from "./loader.ts";
export { type BlockPlace, MixtureOrder, type MixtureSource, type MixtureStage } from "./mixture.ts";
export { Permutation } from "./order.ts";
export { prepare } from "./prepare.ts";
export type { PrepareOptions, PrepareProgress, PrepareSummary } from "./prepare_job.ts";
export { listFiles, type ReadOptions, readDocuments } from "./readers/index.ts";
export { mergeDatasets, type ReshapeOptions, splitDataset } from "./reshape.ts";
export type { DatasetManifest } from "./shards.ts";
export {
  type SyntheticDocument,
  type SyntheticKind,
  type SyntheticSource,
  synthesize,
  syntheticSource,
} from "./synthetic/index.ts";
export { loadTokenizer, type TokenBatch, type Tokenizer } from "./tokenizers/index.ts";
