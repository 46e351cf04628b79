import { type DeviceChoice, deviceChoices } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";

/** "cpu,cuda" as two devices. Throws BAD_OPTION naming the option. */
export function devicePair(option: string, text: string): [DeviceChoice, DeviceChoice] {
  const pair = text.split(",");
  const known = pair.every((d) => (deviceChoices as readonly string[]).includes(d));
  if (pair.length !== 2 || !known)
    throw new ThalwegError(
      "BAD_OPTION",
      `${option} is ${JSON.stringify(text)}, expected two of ${deviceChoices.join(", ")} with a comma between, e.g. cpu,cuda.`,
    );
  return pair as [DeviceChoice, DeviceChoice];
}
