import { ThalwegError } from "../base/errors.ts";

/** Where a value stands in a config: keys and list indices from the root. */
export type ConfigPath = readonly (string | number)[];

/** `schedule.lr.wsd_s.budgets[1]` */
export function formatPath(path: ConfigPath): string {
  let text = "";
  for (const part of path) text += typeof part === "number" ? `[${part}]` : text === "" ? part : `.${part}`;
  return text;
}

/** A BAD_CONFIG error about one value. The loader adds file and line to its message, see `located` in load.ts. */
export class ConfigError extends ThalwegError {
  readonly path: ConfigPath;
  readonly located: boolean;
  constructor(path: ConfigPath, message: string, location?: string) {
    super("BAD_CONFIG", location === undefined ? message : `${location}  ${message}`);
    this.name = "ConfigError";
    this.path = path;
    this.located = location !== undefined;
  }
}
