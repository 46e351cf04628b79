import { readFile } from "node:fs/promises";
import { dirname, relative, resolve } from "node:path";
import { fileReason } from "../base/errors.ts";
import { canonicalHash } from "./canonical.ts";
import { ConfigError, type ConfigPath, formatPath } from "./errors.ts";
import { configError } from "./issues.ts";
import { isMapping, type Layer, parseLayer, parseOverride } from "./layer.ts";
import { Merged } from "./merge.ts";
import { type RunConfig, resolveRun, runSchema } from "./schema.ts";

/** A run's configuration, and where each of its values comes from. */
export interface LoadedConfig {
  /** The file as it was named, for messages. */
  readonly file: string;
  readonly config: RunConfig;
  /** For each value: "default", "file:line", or "override a.b=1". */
  readonly sources: Readonly<Record<string, string>>;
  /** SHA-256 of the resolved config's canonical JSON. */
  readonly hash: string;
  /** "file:line" or the override of a value, or of what stands around it; undefined for defaults. */
  locate(path: ConfigPath): string | undefined;
}

/** Reads a file's text; replaced in tests. */
export type ReadText = (file: string) => Promise<string>;

const readText: ReadText = async (file) => {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new ConfigError([], `cannot read the config: ${fileReason(cause) ?? cause}.`, file);
  }
};

/**
 * Reads a YAML config with the files it extends, lays overrides (`a.b=1`, last one wins) over it, validates and resolves it.
 * Paths of data folders stay as written: relative to where the command runs.
 * Throws ConfigError (BAD_CONFIG) with the field, its file and line, what was found and what was expected; BAD_OPTION for an
 * override that cannot be read.
 */
export async function loadRunConfig(
  file: string,
  overrides: readonly string[] = [],
  read = readText,
): Promise<LoadedConfig> {
  const merged = new Merged();
  for (const layer of await layersOf(file, read, [])) merged.add(layer);
  for (const text of overrides) merged.override(parseOverride(text));
  return resolveMerged(merged, file);
}

/** Validates a config given as a value, such as the one in a run.json. */
export function parseRunConfig(value: unknown, name = "config"): LoadedConfig {
  const merged = new Merged();
  if (!isMapping(value)) throw new ConfigError([], "the config must be a mapping of fields", name);
  merged.add({ data: value, origins: new Map() });
  return resolveMerged(merged, name);
}

function resolveMerged(merged: Merged, file: string): LoadedConfig {
  const locate = (path: ConfigPath) => merged.locate(path);
  const parsed = runSchema.safeParse(merged.data);
  if (!parsed.success)
    throw configError(runSchema, merged.data, parsed.error.issues, [], (path) => locate(path) ?? file);
  const config = resolveRun(parsed.data);
  return { file, config, sources: sourcesOf(config, merged), hash: canonicalHash(config), locate };
}

/** The layers of a file and of those it extends, the most basic first. */
async function layersOf(file: string, read: ReadText, above: readonly string[]): Promise<Layer[]> {
  const full = resolve(file);
  if (above.includes(full))
    throw new ConfigError(
      ["extends"],
      `extends makes a circle: ${[...above, full].map((f) => relative(".", f)).join(" -> ")}.`,
      file,
    );
  const { data, origins } = parseLayer(await read(file), file);
  const { extends: base, ...own } = data;
  if (base === undefined) return [{ data: own, origins }];
  if (typeof base !== "string")
    throw new ConfigError(
      ["extends"],
      `extends is ${JSON.stringify(base)}; expected a file's name.`,
      origins.get("extends"),
    );
  const baseFile = relative(".", resolve(dirname(file), base));
  return [...(await layersOf(baseFile, read, [...above, full])), { data: own, origins }];
}

/** Lists and scalars of the resolved config, each with its source. */
function sourcesOf(config: RunConfig, merged: Merged): Record<string, string> {
  const sources: Record<string, string> = {};
  const walk = (value: unknown, path: ConfigPath): void => {
    if (isMapping(value)) for (const [key, field] of Object.entries(value)) walk(field, [...path, key]);
    else sources[formatPath(path)] = merged.origins.get(formatPath(path)) || "default";
  };
  walk(config, []);
  return sources;
}

/** Runs `build`; a ConfigError it throws about a value of this config is given the value's file and line. */
export function located<T>(loaded: Pick<LoadedConfig, "file" | "locate">, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof ConfigError) || error.located) throw error;
    throw new ConfigError(error.path, error.message, loaded.locate(error.path) ?? loaded.file);
  }
}
