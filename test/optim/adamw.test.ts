import test from "ava";
import { scalarNames } from "../../ts/graph/step_inputs.ts";
import { llamaParameters } from "../../ts/model/llama.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamScalars } from "../../ts/optim/adamw.ts";
import { parameterScales } from "../../ts/optim/groups.ts";

const config = llamaConfig({ vocab: 11, dim: 8, layers: 2, heads: 2, ffn: 6, maxLength: 6, qkNorm: true });
const parameters = llamaParameters(config);
const attention = "model.layers.0.self_attn";

test("the paper's mask decays every matrix, the head included, but no norm and no embedding", (t) => {
  const scales = parameterScales(parameters);
  const decayed = parameters.filter((p) => scales.get(p.name)!.decayScale === 1).map((p) => p.kind);
  t.deepEqual(new Set(decayed), new Set(["linear"]));
  t.is(scales.get("lm_head.weight")!.decayScale, 1);
  for (const name of ["model.embed_tokens.weight", "model.norm.weight", `${attention}.q_norm.weight`])
    t.deepEqual(scales.get(name), { lrScale: 1, decayScale: 0 });
});

test("a tied embedding counts as an embedding", (t) => {
  const tied = llamaParameters({ ...config, tied: true });
  t.is(parameterScales(tied).get("model.embed_tokens.weight")!.decayScale, 0);
});

test("rules match by kind, engine name or Hugging Face name; the first that states a factor wins", (t) => {
  const scales = parameterScales(parameters, [
    { match: "lm_head", lr: 0.5 },
    { kind: "linear", lr: 2, decay: 0.25 },
    { match: "layers\\.0\\.self_attn\\.[qkv]_proj", lr: 9 },
    { kind: "embedding", decay: 1 },
    { match: "_norm\\.weight$", lr: 3 },
  ]);
  t.deepEqual(scales.get("lm_head.weight"), { lrScale: 0.5, decayScale: 0.25 });
  t.deepEqual(scales.get(`${attention}.qkv_proj.weight`), { lrScale: 2, decayScale: 0.25 });
  t.deepEqual(scales.get("model.embed_tokens.weight"), { lrScale: 1, decayScale: 1 });
  t.deepEqual(scales.get(`${attention}.k_norm.weight`), { lrScale: 3, decayScale: 0 });
});

test("rules that split a fused parameter, match nothing or are no pattern are refused with their place", (t) => {
  t.throws(() => parameterScales(parameters, [{ match: "q_proj", lr: 2 }]), {
    code: "BAD_CONFIG",
    message:
      /optimizer.groups\[0\].match "q_proj" holds for model.layers.0.self_attn.q_proj.weight but not for all parts/,
  });
  t.throws(() => parameterScales(parameters, [{ kind: "norm" }, { match: "bias" }]), {
    message: /optimizer.groups\[1\] .* matches no parameter/,
  });
  t.throws(() => parameterScales(parameters, [{ match: "(" }]), { message: /"\(" is no regular expression/ });
});

test("step scalars stand in the agreed order, with bias corrections of the update to come", (t) => {
  const scalars = adamScalars({ ...adamDefaults, step: 2, lr: 1e-3, lossScale: 1 / 1024 });
  const at = (name: (typeof scalarNames)[number]) => scalars[scalarNames.indexOf(name)];
  t.is(scalars.length, scalarNames.length);
  t.is(at("lr"), Math.fround(1e-3));
  t.is(at("bias1"), Math.fround(1 / (1 - Math.fround(0.9) ** 3)));
  t.is(at("bias2"), Math.fround(1 / (1 - Math.fround(0.95) ** 3)));
  t.is(at("lossScale"), 1 / 1024);
  t.is(at("clip"), 1);
});
