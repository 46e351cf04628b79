import type { DeviceChoice } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";
import type { Module } from "../engine/module.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { playIntegers } from "./module_machine.ts";
import { loadPretrained, openPretrained } from "./pretrained.ts";
import { uniforms } from "./random.ts";
import { checkSampleOptions, type SampleOptions, sampleDefaults, sampleToken } from "./sample.ts";

export interface GenerateOptions extends Partial<SampleOptions> {
  /** Most tokens to add. Default 128. */
  maxTokens?: number | undefined;
  /** Same seed, prompt and options give the same text. Default 0. */
  seed?: number | undefined;
  /** A token that ends the text, itself left out; null = none. */
  stopAt?: number | null | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Samples tokens after a prompt with the Module's `decode` Program: one token at a time against the key/value cache.
 * Ends after maxTokens, at `stopAt`, or when the model has no further position.
 * @throws BAD_OPTION for an empty prompt, one longer than the model, or options out of range.
 */
export async function* generateTokens(
  module: Module,
  model: LlamaConfig,
  prompt: Int32Array,
  options: GenerateOptions = {},
): AsyncGenerator<number> {
  const { maxTokens = 128, seed = 0, stopAt = null, signal } = options;
  const sampling = { ...sampleDefaults, ...dropUndefined(options) };
  checkSampleOptions(sampling);
  if (!(Number.isInteger(maxTokens) && maxTokens >= 0))
    throw new ThalwegError("BAD_OPTION", `tokens is ${maxTokens}, expected a whole number >= 0`);
  if (prompt.length === 0 || prompt.length > model.maxLength)
    throw new ThalwegError(
      "BAD_OPTION",
      `the prompt has ${prompt.length} tokens, expected 1 to ${model.maxLength} (the model's longest sequence).`,
    );
  const uniform = uniforms(seed);
  const end = Math.min(model.maxLength, prompt.length + maxTokens);
  let token = prompt[0]!;
  for (let position = 0; position < end - 1 || position < prompt.length - 1; position++) {
    signal?.throwIfAborted();
    const played = decode(module, token, position);
    if (position + 1 < prompt.length) {
      await played;
      token = prompt[position + 1]!;
      continue;
    }
    const read = module.read("out/logits");
    read.catch(() => undefined);
    await played;
    token = sampleToken((await read) as Float32Array, sampling, uniform());
    if (token === stopAt) return;
    yield token;
  }
}

const dropUndefined = <T extends object>(value: T): Partial<T> =>
  Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Partial<T>;

const decode = (module: Module, token: number, position: number): Promise<unknown> =>
  module.play([
    {
      program: "decode",
      inputs: { "io/tokens": Int32Array.of(token) },
      integers: playIntegers({ firstMicroBatch: 1, positionOffset: position, cacheLength: position }),
    },
  ]);

export interface GenerateTextOptions extends GenerateOptions {
  /** A checkpoint, a run directory (its newest checkpoint) or a transformers folder. */
  path: string;
  /** Take the moving average of the weights that lies beside them. */
  average?: boolean | undefined;
  prompt: string;
  /** Compute precision. Default: that of the run, or fp32. */
  precision?: "fp32" | "bf16" | undefined;
  device?: DeviceChoice | undefined;
  threads?: number | undefined;
  /** Called with each piece of text as soon as it is whole characters. */
  onText?: ((piece: string) => void) | undefined;
}

/** Continues a text. An empty prompt starts as a new document does: after the end-of-text token. */
export async function generateText(options: GenerateTextOptions): Promise<{ text: string; tokens: number[] }> {
  const pretrained = await openPretrained(options.path, options.average);
  const { tokenizer, model, checkpoint } = pretrained;
  if (tokenizer === null)
    throw new ThalwegError("BAD_INPUT", `${pretrained.folder} has no tokenizer.json: text cannot be read or written.`);
  const precision = options.precision ?? checkpoint?.state.config.precision ?? "fp32";
  const prompt = tokenizer.encode(options.prompt);
  const start = prompt.length > 0 ? prompt : Int32Array.of(tokenizer.eos ?? 0);
  await using loaded = await loadPretrained(pretrained, {
    precision: precision === "bf16" ? "bf16" : "f32",
    microBatch: 1,
    length: 1,
    kinds: ["decode"],
    device: options.device,
    threads: options.threads,
  });
  const tokens: number[] = [];
  let told = 0;
  for await (const token of generateTokens(loaded.module, model, start, { stopAt: tokenizer.eos, ...options })) {
    tokens.push(token);
    const text = tokenizer.decode(tokens);
    // A character may need further tokens: its beginning decodes to U+FFFD.
    if (text.endsWith("\ufffd") || text.length <= told) continue;
    options.onText?.(text.slice(told));
    told = text.length;
  }
  const text = tokenizer.decode(tokens);
  if (text.length > told) options.onText?.(text.slice(told));
  return { text, tokens };
}
