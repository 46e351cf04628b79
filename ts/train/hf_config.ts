import { ThalwegError } from "../base/errors.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { llamaConfig } from "../model/presets.ts";

/** Special tokens that a tokenizer has. */
export interface SpecialTokens {
  eos: number | null;
}

/**
 * config.json beside the weights, so that transformers loads the folder as it is. Norms of queries and keys make it a
 * Qwen3 (the same block as ours with them); otherwise a LLaMA.
 */
export function huggingFaceConfig(model: LlamaConfig, { eos }: SpecialTokens): Record<string, unknown> {
  return {
    architectures: [model.qkNorm ? "Qwen3ForCausalLM" : "LlamaForCausalLM"],
    model_type: model.qkNorm ? "qwen3" : "llama",
    hidden_size: model.dim,
    intermediate_size: model.ffn,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.kvHeads,
    head_dim: model.headDim,
    hidden_act: "silu",
    rms_norm_eps: model.normEps,
    rope_theta: model.ropeTheta,
    tie_word_embeddings: model.tied,
    vocab_size: model.vocab,
    max_position_embeddings: model.maxLength,
    attention_bias: false,
    ...(model.qkNorm ? {} : { mlp_bias: false }),
    attention_dropout: 0,
    bos_token_id: eos,
    eos_token_id: eos,
    torch_dtype: "float32",
    use_cache: true,
  };
}

/**
 * The network that a transformers config.json describes. `path` is for messages.
 * @throws BAD_INPUT for another architecture or a feature this engine does not have (scaled rotary, biases).
 */
export function modelOfHuggingFace(json: Record<string, unknown>, path: string): LlamaConfig {
  const architecture = (json.architectures as string[] | undefined)?.[0];
  const refuse = (what: string) =>
    new ThalwegError("BAD_INPUT", `${path}: ${what}; this engine loads LlamaForCausalLM and Qwen3ForCausalLM.`);
  if (architecture !== "LlamaForCausalLM" && architecture !== "Qwen3ForCausalLM")
    throw refuse(`the architecture is ${architecture}`);
  const rope = (json.rope_parameters ?? json.rope_scaling ?? null) as Record<string, unknown> | null;
  const ropeType = rope === null ? "default" : (rope.rope_type ?? rope.type ?? "default");
  if (ropeType !== "default") throw refuse(`rotary positions are scaled (${ropeType})`);
  if (json.attention_bias === true || json.mlp_bias === true) throw refuse("it has biases");
  if ((json.hidden_act ?? "silu") !== "silu") throw refuse(`its MLP is gated by ${json.hidden_act}, not silu`);
  if ((json.partial_rotary_factor ?? 1) !== 1) throw refuse("only a part of each head is rotated");
  if (json.use_sliding_window === true) throw refuse("its attention slides over a window");
  const number = (name: string, fallback?: number): number => {
    const value = json[name] ?? fallback;
    if (typeof value !== "number") throw refuse(`${name} is ${JSON.stringify(value)}, expected a number`);
    return value;
  };
  const dim = number("hidden_size");
  const heads = number("num_attention_heads");
  return llamaConfig({
    vocab: number("vocab_size"),
    dim,
    layers: number("num_hidden_layers"),
    heads,
    kvHeads: number("num_key_value_heads", heads),
    headDim: number("head_dim", dim / heads),
    ffn: number("intermediate_size"),
    maxLength: number("max_position_embeddings"),
    ropeTheta: number("rope_theta", (rope?.rope_theta as number | undefined) ?? 10000),
    normEps: number("rms_norm_eps"),
    tied: json.tie_word_embeddings === true,
    qkNorm: architecture === "Qwen3ForCausalLM",
  });
}
