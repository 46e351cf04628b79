import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import test from "ava";
import { readPrepareConfig } from "../../ts/config/prepare_config.ts";
import { openDataset } from "../../ts/data/dataset.ts";
import { prepare } from "../../ts/data/prepare.ts";
import { temporaryFolder, writeTree } from "./support.ts";

const pile = join(import.meta.dirname, "../../configs/data/pile.yaml");
const samples = join(process.env.THALWEG_TEST_DATA ?? "", "jsonl/openwebtext-1000.jsonl");

/** Text in the Pile's form, at the places its config names, packed by gzip: zstd has a test of its own. */
async function preparePile(root: string, train: string[], validation: string[]) {
  const line = (text: string) => `${JSON.stringify({ text, meta: { pile_set_name: "Pile-CC" } })}\n`;
  const packed = (texts: string[]) => gzipSync(texts.map(line).join(""));
  writeTree(root, {
    "pile/train/00.jsonl.gz": packed(train.slice(0, train.length >> 1)),
    "pile/train/29.jsonl.gz": packed(train.slice(train.length >> 1)),
    "pile/train/other.jsonl.gz": packed(["not one of the thirty"]),
    "pile/val.jsonl.gz": packed(validation),
  });
  const { output, inputs, validationInputs, ...config } = readPrepareConfig(pile);
  const here = (paths: string[]) => paths.map((path) => join(root, path.replace(/\.zst$/, ".gz")));
  const made = await prepare({
    ...config,
    field: config.field!,
    inputs: here(inputs),
    validationInputs: here(validationInputs!),
    output: join(root, output),
    tokenizer: "bytes",
  });
  await using dataset = await openDataset(join(root, output, "train"), { verify: true });
  return { made, first: dataset.tokenizer().decode(await dataset.document(0)) };
}

test("the Pile's config reads its thirty files and its validation file, repetitions kept", async (t) => {
  const train = Array.from({ length: 50 }, (_, i) => `training text ${i % 40}`);
  const { made, first } = await preparePile(temporaryFolder(t), train, ["validation text"]);
  t.is(made.train.documents, 50);
  t.is(made.validation!.documents, 1);
  t.is(first, "training text 0<|endoftext|>");
});

test("the same path takes real web text (THALWEG_TEST_DATA)", async (t) => {
  if (!existsSync(samples)) {
    t.log("skipped: THALWEG_TEST_DATA names no folder with jsonl/openwebtext-1000.jsonl");
    t.pass();
    return;
  }
  const texts = readFileSync(samples, "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { text: string }).text);
  const { made, first } = await preparePile(temporaryFolder(t), texts.slice(100), texts.slice(0, 100));
  t.is(made.train.documents + made.validation!.documents, texts.length);
  t.true(first.startsWith(texts[100]!.slice(0, 50)));
});

test("a config with an unknown field or no inputs is refused by file and field", (t) => {
  const file = join(temporaryFolder(t), "bad.yaml");
  writeFileSync(file, "inputs: []\noutput: data/x\ntokeniser: bytes\n");
  t.throws(() => readPrepareConfig(file), { code: "BAD_CONFIG", message: /bad\.yaml: .*inputs.*tokeniser/s });
});
