import { join } from "node:path";
import test from "ava";
import { type Dataset, openDataset } from "../../ts/data/dataset.ts";
import { mergeDatasets, splitDataset } from "../../ts/data/reshape.ts";
import { synthesize, syntheticSource } from "../../ts/data/synthetic/index.ts";
import { namedTokenizer, temporaryFolder, writeDataset, writeTree } from "./support.ts";

async function content(dataset: Dataset) {
  const tokens = new Int32Array(dataset.tokens);
  const entropy = new Float32Array(dataset.tokens);
  await dataset.read(0, dataset.tokens, tokens);
  await dataset.readEntropy(0, dataset.tokens, entropy);
  return { tokens: [...tokens], entropy: [...entropy] };
}

test("a dataset split in parts and merged again has the same documents, tokens and entropies", async (t) => {
  const root = temporaryFolder(t);
  const source = syntheticSource("facts", { seed: 8 });
  await synthesize({ source, output: join(root, "data"), tokens: 30_000, shardTokens: 9000 });
  const folder = join(root, "data", "train");
  const parts = await splitDataset(folder, join(root, "parts"), 4, { shardTokens: 5000 });
  await using whole = await openDataset(folder);
  t.is(
    parts.reduce((sum, part) => sum + part.tokens, 0),
    whole.tokens,
  );
  for (const { tokens } of parts) t.true(Math.abs(tokens / whole.tokens - 0.25) < 0.05, `${tokens}`);
  const folders = parts.map((part) => join(root, "parts", part.name));
  await mergeDatasets(folders, join(root, "merged"), { shardTokens: 9000 });
  await using merged = await openDataset(join(root, "merged"), { verify: true });
  t.deepEqual(await content(merged), await content(whole));
  t.is(merged.documents, whole.documents);
  t.is(merged.identity, whole.identity);
  t.deepEqual(await merged.document(17), await whole.document(17));
  t.true(Math.abs(merged.manifest.textBytes - whole.manifest.textBytes) <= 4);
});

test("datasets of different tokenizers are not merged, nor one split in more parts than documents", async (t) => {
  const root = writeTree(temporaryFolder(t), { "a/x": "", "b/x": "" });
  await writeDataset(join(root, "a"), [[1, 2, 3]]);
  await writeDataset(join(root, "b"), [[1, 2, 3]], 100, namedTokenizer(300));
  const output = join(root, "out");
  await t.throwsAsync(mergeDatasets([join(root, "a"), join(root, "b")], output), {
    code: "BAD_INPUT",
    message: /another tokenizer/,
  });
  await t.throwsAsync(splitDataset(join(root, "a"), output, 2), {
    code: "BAD_OPTION",
    message: /2 parts of 1 documents/,
  });
});
