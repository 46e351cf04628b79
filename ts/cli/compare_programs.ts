import type { RunConfig } from "../config/schema.ts";
import { devicePair } from "./device_pair.ts";
import { print, printJson } from "./output.ts";

/** `inspect program --compare A,B`: a training step of the config's model, command by command. Exit 1 when they differ. */
export async function comparePrograms(config: RunConfig, devices: string, json: boolean): Promise<void> {
  const pair = devicePair("--compare", devices);
  const [{ planFromConfig }, { compareDevices }, { deviceComparison }, { enginePrecision }] = await Promise.all([
    import("../train/setup.ts"),
    import("../train/compare_devices.ts"),
    import("../report/device_comparison.ts"),
    import("../train/model_config.ts"),
  ]);
  const { built, model, microBatch } = await planFromConfig({ ...config, device: "cpu" });
  const found = await compareDevices({
    built,
    kinds: ["accumulate", "update"],
    devices: pair,
    vocab: model.vocab,
    batch: microBatch,
    length: config.batch.length,
    optimizer: config.optimizer,
  });
  const { text, ok } = deviceComparison(found, pair, enginePrecision(config.precision));
  if (json) printJson(found);
  else print(text);
  if (!ok) process.exitCode = 1;
}
