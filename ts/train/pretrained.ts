import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { DeviceChoice } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";
import { loadTokenizer, type Tokenizer } from "../data/tokenizers/index.ts";
import { Engine } from "../engine/engine.ts";
import type { Module } from "../engine/module.ts";
import { type BuildOptions, type BuiltModule, buildModule } from "../model/build.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { newestCheckpoint } from "./checkpoint_folder.ts";
import { type Checkpoint, MANIFEST, readCheckpoint } from "./checkpoint_verify.ts";
import { modelOfHuggingFace } from "./hf_config.ts";
import { loadModule, modelEntries } from "./module_machine.ts";
import { AVERAGE_FILE, MODEL_FILE } from "./saver.ts";

/** A trained model on disk: a checkpoint of ours, verified, or a folder as transformers has it. */
export interface Pretrained {
  folder: string;
  /** The file of the weights: of the model, or of its moving average. */
  weights: string;
  model: LlamaConfig;
  /** null for a folder that is not a Thalweg checkpoint. */
  checkpoint: Checkpoint | null;
  /** null when the folder has none. */
  tokenizer: Tokenizer | null;
}

/**
 * Reads what a path names: a checkpoint, a run directory (its newest checkpoint), or a folder with config.json and
 * model.safetensors; with `average`, the moving average of the weights that lies beside them.
 * @throws BAD_INPUT when it is none; BAD_OPTION when it has no average; CORRUPT_CHECKPOINT naming the file.
 */
export async function openPretrained(path: string, average = false): Promise<Pretrained> {
  const newest = existsSync(join(path, "checkpoints")) ? await newestCheckpoint(join(path, "checkpoints")) : null;
  const folder = newest?.path ?? path;
  const checkpoint = newest ?? (existsSync(join(folder, MANIFEST)) ? await readCheckpoint(folder) : null);
  const tokenizer = existsSync(join(folder, "tokenizer.json")) ? loadTokenizer(folder) : null;
  const weights = join(folder, average ? AVERAGE_FILE : MODEL_FILE);
  if (average && !existsSync(weights))
    throw new ThalwegError(
      "BAD_OPTION",
      `${folder} has no ${AVERAGE_FILE}: its run kept no moving average (optimizer.ema).`,
    );
  if (checkpoint) return { folder, weights, model: checkpoint.state.model, checkpoint, tokenizer };
  const config = join(folder, "config.json");
  if (!existsSync(config) || !existsSync(join(folder, MODEL_FILE)))
    throw new ThalwegError(
      "BAD_INPUT",
      `${path} holds no model: expected a checkpoint (manifest.json), a run directory, or config.json with ${MODEL_FILE}.`,
    );
  const json = JSON.parse(await readFile(config, "utf8")) as Record<string, unknown>;
  return { folder, weights, model: modelOfHuggingFace(json, config), checkpoint: null, tokenizer };
}

export interface PretrainedModule extends AsyncDisposable {
  engine: Engine;
  module: Module;
  built: BuiltModule;
}

/** Loads the weights into a Module with the wanted Programs; nothing is trained. */
export async function loadPretrained(
  { weights, model }: Pretrained,
  options: BuildOptions & { device?: DeviceChoice | undefined; threads?: number | undefined },
): Promise<PretrainedModule> {
  const { device = "auto", threads = 0, ...build } = options;
  const built = buildModule(model, build);
  const engine = await Engine.create({ device, threads });
  try {
    const module = await loadModule(engine, built);
    await module.loadFile(weights, modelEntries(built.parameters));
    return { engine, module, built, [Symbol.asyncDispose]: () => engine.dispose() };
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}
