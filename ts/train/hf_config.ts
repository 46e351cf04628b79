import type { LlamaConfig } from "../model/llama.ts";

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
