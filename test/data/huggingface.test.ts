import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { loadTokenizer } from "../../ts/data/tokenizers/index.ts";
import { temporaryFolder, writeTree } from "./support.ts";

/** Made by tools/fixtures/make_tokenizer_fixtures.py with Hugging Face tokenizers. */
interface Fixture {
  tokenizer: Record<string, unknown>;
  texts: string[];
  text: { ids: number[]; decoded: string }[];
  match: { ids: number[]; decoded: string }[];
}

const fixture = (name: string) =>
  JSON.parse(readFileSync(join(import.meta.dirname, `../fixtures/tokenizers/${name}.json`), "utf8")) as Fixture;

const forms = ["neox", "llama", "metaspace", "prefixed", "llama3", "qwen2", "o200k"];

for (const name of forms)
  for (const specialTokens of ["text", "match"] as const)
    test(`${name}: ids and texts are Hugging Face's, special tokens read as ${specialTokens}`, async (t) => {
      const { tokenizer: json, texts, ...expected } = fixture(name);
      const folder = writeTree(temporaryFolder(t), { "tokenizer.json": JSON.stringify(json) });
      const tokenizer = loadTokenizer(folder, { specialTokens, threads: 2 });
      const batch = await tokenizer.encodeBatch(texts.map((text) => Buffer.from(text, "utf8")));
      for (const [i, text] of texts.entries()) {
        const { ids, decoded } = expected[specialTokens][i]!;
        t.deepEqual([...tokenizer.encode(text)], ids, JSON.stringify(text));
        t.deepEqual([...batch.ids.subarray(batch.offsets[i], batch.offsets[i + 1])], ids, JSON.stringify(text));
        t.is(tokenizer.decode(ids), decoded, JSON.stringify(text));
      }
    });

test("a tokenizer.json that is copied beside a dataset loads as the same tokenizer", (t) => {
  for (const name of forms) {
    const first = loadTokenizer(
      writeTree(temporaryFolder(t), { "tokenizer.json": JSON.stringify(fixture(name).tokenizer, null, 2) }),
    );
    const again = loadTokenizer(writeTree(temporaryFolder(t), first.files()));
    t.deepEqual([again.hash, again.eos, again.vocabSize], [first.hash, first.eos, first.vocabSize]);
    const ends: Record<string, number> = { llama: 2, metaspace: 2, llama3: 501, qwen2: 451, o200k: 451 };
    t.is(first.eos, ends[name] ?? 0);
  }
});

interface Json {
  [key: string]: unknown;
}

/** Loads a fixture's tokenizer.json after a change. */
function changed(t: Parameters<typeof temporaryFolder>[0], name: string, change: (json: Json) => void) {
  const json = structuredClone(fixture(name).tokenizer) as Json;
  change(json);
  return () => loadTokenizer(writeTree(temporaryFolder(t), { "tokenizer.json": JSON.stringify(json) }));
}

test("merges are read in both ways of writing", (t) => {
  const plain = changed(t, "neox", () => undefined)();
  const strings = changed(t, "neox", (json) => {
    const model = json.model as { merges: string[][] };
    json.model = { ...model, merges: model.merges.map((pair) => pair.join(" ")) };
  })();
  const text = "The licensor's   works, Café";
  t.deepEqual(strings.encode(text), plain.encode(text));
});

test("what is not supported is named by its path", (t) => {
  const refuse = (name: string, path: string, value: unknown, message: RegExp) => {
    const load = changed(t, name, (json) => {
      const keys = path.split(".");
      const last = keys.pop()!;
      const at = keys.reduce<Json>((node, key) => node[key] as Json, json);
      at[last] = value;
    });
    t.throws(load, { code: "BAD_INPUT", message });
  };
  refuse("neox", "model.type", "WordPiece", /tokenizer\.json: model\.type is "WordPiece"/);
  refuse("neox", "model.dropout", 0.1, /model\.dropout makes ids random/);
  refuse("neox", "model.surprise", 1, /model\.surprise is not known/);
  refuse("neox", "model.merges.3", ["a", "nowhere"], /model\.merges\[3\] \["a","nowhere"\] needs the token "nowhere"/);
  refuse("neox", "model.vocab.A", -1, /model\.vocab\.A is -1/);
  refuse("neox", "normalizer", { type: "Lowercase" }, /normalizer\.type "Lowercase" is not supported/);
  refuse("llama", "normalizer.normalizers.1.content", "_", /normalizer\.normalizers\[1\]\.content is "_"/);
  refuse("neox", "pre_tokenizer", { type: "Whitespace" }, /pre_tokenizer\.type "Whitespace" is not supported/);
  const split = (name: string, path: string, value: unknown, message: RegExp) =>
    refuse(name, `pre_tokenizer.pretokenizers.${path}`, value, message);
  split("llama3", "0.pattern.Regex", "\\w+", /pretokenizers\[0\]\.pattern\.Regex is "\\\\w\+"; known are .*Llama 3/);
  split("llama3", "0.pattern", { String: " " }, /pretokenizers\[0\]\.pattern\.String is not known/);
  split("llama3", "0.behavior", "MergedWithNext", /pretokenizers\[0\]\.behavior is "MergedWithNext"/);
  split("o200k", "0.invert", false, /pretokenizers\[0\]\.behavior is "Removed"/);
  split("llama3", "1.use_regex", true, /pretokenizers\[1\]\.use_regex would split a second time/);
  split("llama3", "1.add_prefix_space", true, /pretokenizers\[1\]\.add_prefix_space would put a space/);
  split("llama3", "1", { type: "Digits" }, /pretokenizers\[0\] is a Split without a ByteLevel/);
  split("llama3", "2", { type: "ByteLevel" }, /pretokenizers\[2\] is a third pre-tokenizer/);
  refuse("neox", "truncation", { max_length: 4 }, /truncation is set/);
  refuse("neox", "post_processor", { type: "Surprise" }, /post_processor\.type "Surprise"/);
  refuse("neox", "decoder", { type: "WordPiece" }, /decoder\.type "WordPiece" is not supported/);
  refuse("neox", "added_tokens.0.single_word", true, /added_tokens\[0\]\.single_word is true/);
  refuse("neox", "added_tokens.1.id", 5, /added_tokens\[1\]\.id is 5, but/);
  refuse("llama", "model.byte_fallback", false, /model\.byte_fallback is not true/);
  refuse("llama", "model.ignore_merges", true, /model\.ignore_merges is true/);
  refuse("llama", "model.merges.0", ["<0x41>", "<0x42>"], /model\.merges\[0\]/);
});

test("a broken tokenizer.json is refused by name or works, whatever broke", (t) => {
  const folder = temporaryFolder(t);
  const junk = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom<unknown>(null, -1, 1e9, "", "Ġ", [], {}, true));
  const small = fixture("prefixed").tokenizer as Json;
  let [refused, worked] = [0, 0];
  fc.assert(
    fc.property(fc.array(fc.nat(1e6), { minLength: 1, maxLength: 6 }), junk, fc.boolean(), (way, value, cut) => {
      const json = structuredClone(small);
      let node: Json = json;
      let key = "model";
      for (const step of way) {
        const keys = Object.keys(node);
        key = keys[step % Math.max(1, keys.length)] ?? "new";
        const next = node[key];
        if (typeof next !== "object" || next === null) break;
        if (step !== way.at(-1)) node = next as Json;
      }
      node[key] = value;
      const text = JSON.stringify(json);
      writeTree(folder, { "tokenizer.json": cut ? text.slice(0, way[0]! % text.length) : text });
      try {
        loadTokenizer(folder, { threads: 1 }).encode("The Größe of <|endoftext|> 漢字 works");
        worked++;
      } catch (error) {
        t.is((error as { code?: string }).code, "BAD_INPUT", `${(error as Error).stack}`);
        refused++;
      }
    }),
    { numRuns: 400 },
  );
  t.true(refused > 80 && worked > 0, `${refused} refused, ${worked} worked`);
});
