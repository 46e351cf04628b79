import test from "ava";
import { type LlamaConfig, llamaParameters, ropeTable } from "../../ts/model/llama.ts";
import { checkParts, initSpecs } from "../../ts/model/parameters.ts";
import { counts, flopsPerToken, llamaConfig, preset, presets } from "../../ts/model/presets.ts";
import { tinyConfig } from "./tiny.ts";

/** PAPER.md 1.1: [layers, dim, ffn, heads, head dim, non-embedding, total at 32,000 tokens]. */
const paper: Record<string, number[]> = {
  "paper-0.1b": [12, 768, 3072, 12, 64, 113.3e6, 162.4e6],
  "paper-0.3b": [24, 1024, 2048, 16, 64, 251.7e6, 317.2e6],
  "paper-0.6b": [24, 1536, 6144, 32, 48, 906.0e6, 1004.3e6],
  "paper-1.2b": [16, 2048, 8192, 16, 128, 1073.8e6, 1204.9e6],
};

for (const [name, [layers, dim, ffn, heads, headDim, nonEmbedding, total]] of Object.entries(paper))
  test(`${name} has the paper's shape and, to the table's four digits, its parameter counts`, (t) => {
    const c = preset(name);
    t.deepEqual([c.layers, c.dim, c.ffn, c.heads, c.headDim, c.kvHeads], [layers, dim, ffn, heads, headDim, heads]);
    t.deepEqual([c.vocab, c.tied, c.ropeTheta, c.normEps, c.zLoss], [32000, false, 10000, 1e-5, 0]);
    t.true(Math.abs(counts(c).nonEmbedding - nonEmbedding!) <= 0.05e6);
    t.true(Math.abs(counts(c).parameters - total!) <= 0.05e6);
  });

test("the small presets have the sizes their names promise", (t) => {
  t.is(counts(presets.quickstart!).parameters, 179136);
  t.is(counts(presets["1m"]!).parameters, 1055104);
  t.is(counts(presets["10m"]!).parameters, 10621184);
  t.is(counts(presets["124m"]!).parameters, 123551232);
  t.is(counts(presets["124m"]!).nonEmbedding, 123551232 - 50257 * 768);
});

test("FLOPs per token are 6 per multiplied value and 6 layers x width x length for causal attention", (t) => {
  const c = preset("10m");
  const multiplied = 8 * (4 * 256 * 256 + 3 * 256 * 704) + 8192 * 256;
  t.is(counts(c).matmul, multiplied);
  t.is(flopsPerToken(c, 256), 6 * multiplied + 6 * 8 * 256 * 256);
  const tied = { ...c, tied: true };
  t.is(flopsPerToken(tied, 256), flopsPerToken(c, 256));
});

test("an unknown preset and impossible shapes are refused with the field's name", (t) => {
  t.throws(() => preset("7b"), { code: "BAD_CONFIG", message: /"7b", expected one of quickstart, 1m, 10m/ });
  t.throws(() => preset("10m", { kvHeads: 3 }), { code: "BAD_CONFIG", message: /model.kvHeads is 3/ });
  t.throws(() => llamaConfig({ vocab: 5, dim: 6, layers: 1, heads: 2, ffn: 4, maxLength: 8 }), {
    message: /model.headDim is 3/,
  });
  t.throws(() => llamaConfig({ vocab: 0, dim: 8, layers: 1, heads: 2, ffn: 4, maxLength: 8 }), {
    message: /model.vocab is 0, expected a positive integer/,
  });
});

const hfNames = (c: LlamaConfig) => llamaParameters(c).flatMap((p) => p.parts.map((part) => part.hfName));

test("parts bear the names of transformers' LlamaForCausalLM, each once", (t) => {
  const block = (i: number) =>
    [
      "input_layernorm",
      ...["q_proj", "k_proj", "v_proj", "o_proj"].map((n) => `self_attn.${n}`),
      "post_attention_layernorm",
      ...["gate_proj", "up_proj", "down_proj"].map((n) => `mlp.${n}`),
    ].map((n) => `model.layers.${i}.${n}.weight`);
  const ends = ["model.norm.weight", "lm_head.weight"];
  t.deepEqual(hfNames(tinyConfig()), ["model.embed_tokens.weight", ...block(0), ...block(1), ...ends]);
  t.false(hfNames(tinyConfig({ tied: true })).includes("lm_head.weight"));
  const normed = hfNames(tinyConfig({ qkNorm: true }));
  t.true(normed.includes("model.layers.1.self_attn.q_norm.weight"));
  t.is(new Set(normed).size, normed.length);
});

test("fused parameters are their parts' rows in order", (t) => {
  const qkv = llamaParameters(tinyConfig()).find((p) => p.name.endsWith("0.self_attn.qkv_proj.weight"))!;
  t.deepEqual(qkv.shape, [32, 8]);
  t.deepEqual(
    qkv.parts.map(({ rowStart, rows }) => [rowStart, rows]),
    [
      [0, 16],
      [16, 8],
      [24, 8],
    ],
  );
  t.throws(() => checkParts({ ...qkv, parts: qkv.parts.slice(1) }), {
    message: /k_proj.weight starts at row 16, expected 0/,
  });
  t.throws(() => checkParts({ ...qkv, parts: qkv.parts.slice(0, 2) }), { message: /parts cover 24 of 32 rows/ });
});

test("the paper's initialisation: truncated normal of std 1/sqrt(fan in) per part, norms 1, keyed by Hugging Face names", (t) => {
  const specs = new Map(initSpecs(llamaParameters(tinyConfig()), 17).map((call) => [call.spec.name, call]));
  const layer = "model.layers.1";
  t.deepEqual(specs.get(`${layer}.self_attn.v_proj.weight`), {
    tensor: `param/${layer}.self_attn.qkv_proj.weight`,
    spec: {
      kind: "truncatedNormal",
      std: 1 / Math.sqrt(8),
      seed: 17,
      name: `${layer}.self_attn.v_proj.weight`,
      rowStart: 24,
      rows: 8,
    },
  });
  t.is(specs.get(`${layer}.self_attn.o_proj.weight`)!.spec.std, 1 / Math.sqrt(16));
  t.is(specs.get(`${layer}.mlp.down_proj.weight`)!.spec.std, 1 / Math.sqrt(6));
  t.is(specs.get("model.embed_tokens.weight")!.spec.std, 1 / Math.sqrt(8));
  t.like(specs.get("model.norm.weight")!.spec, { kind: "constant", value: 1 });
});

test("GPT-2's initialisation: normal 0.02, residual outputs scaled by 1/sqrt(2 layers); std can be replaced", (t) => {
  const std = (init: LlamaConfig["init"], part: string) =>
    initSpecs(llamaParameters(tinyConfig({ init })), 0).find((call) => call.spec.name.endsWith(part))!.spec.std;
  t.is(std({ scheme: "gpt2" }, "gate_proj.weight"), 0.02);
  t.is(std({ scheme: "gpt2" }, "down_proj.weight"), 0.01);
  t.is(std({ scheme: "gpt2", std: 0.1 }, "o_proj.weight"), 0.05);
  t.is(std({ scheme: "paper", std: 0.1 }, "o_proj.weight"), 0.1);
});

test("the rotary table has cos then sin of position * theta^(-2i/headDim)", (t) => {
  const table = ropeTable(tinyConfig({ headDim: 4, maxLength: 6, ropeTheta: 100 }));
  t.deepEqual([...table.subarray(0, 4)], [1, 1, 0, 0]);
  t.deepEqual([...table.subarray(20, 24)], [Math.cos(5), Math.cos(0.5), Math.sin(5), Math.sin(0.5)].map(Math.fround));
});
