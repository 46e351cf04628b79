import { type DeviceChoice, deviceChoices } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import { print, printJson } from "./output.ts";

/** `inspect program --compare A,B`: a training step of the config's model, command by command. Exit 1 when they differ. */
export async function comparePrograms(config: RunConfig, devices: string, json: boolean): Promise<void> {
  const pair = devices.split(",");
  const known = pair.every((d) => (deviceChoices as readonly string[]).includes(d));
  if (pair.length !== 2 || !known)
    throw new ThalwegError(
      "BAD_OPTION",
      `--compare is ${JSON.stringify(devices)}, expected two of ${deviceChoices.join(", ")} with a comma between, e.g. cpu,cuda.`,
    );
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
    devices: pair as [DeviceChoice, DeviceChoice],
    vocab: model.vocab,
    batch: microBatch,
    length: config.batch.length,
    optimizer: config.optimizer,
  });
  const { text, ok } = deviceComparison(found, pair as [string, string], enginePrecision(config.precision));
  if (json) printJson(found);
  else print(text);
  if (!ok) process.exitCode = 1;
}
