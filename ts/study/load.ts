import { readFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileReason } from "../base/errors.ts";
import { ConfigError, type ConfigPath } from "../config/errors.ts";
import { configError } from "../config/issues.ts";
import { isMapping, type Layer, parseLayer, parseOverride } from "../config/layer.ts";
import { Merged } from "../config/merge.ts";
import { type StudySpec, studySchema } from "../config/study_schema.ts";

/** A study file with the files it extends. */
export interface LoadedStudy {
  /** The file as it was named. */
  readonly file: string;
  /** Its base is relative to where the command runs. */
  readonly spec: StudySpec;
  /** "file:line" of a value, or of what stands around it. */
  locate(path: ConfigPath): string | undefined;
}

/**
 * Reads a study file. Fields of a file replace those of the file it extends, mapping by mapping; `a.b=1` overrides come
 * last. null takes back a field, a schedule, an axis or a part of `prepare` of the file extended. @throws BAD_CONFIG with file and line, BAD_OPTION for an override that cannot be read.
 */
export async function loadStudy(file: string, overrides: readonly string[] = []): Promise<LoadedStudy> {
  const merged = new Merged();
  for (const layer of await layersOf(file, [])) merged.add(layer);
  for (const text of overrides) merged.override(parseOverride(text));
  const locate = (path: ConfigPath) => merged.locate(path);
  const data = withoutNulls(merged.data);
  const parsed = studySchema.safeParse(data);
  if (!parsed.success) throw configError(studySchema, data, parsed.error.issues, [], (path) => locate(path) ?? file);
  return { file, spec: parsed.data, locate };
}

/** Without fields, schedules, axes and parts of the preparation that are null. */
function withoutNulls(data: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const said = (mapping: object) => Object.fromEntries(Object.entries(mapping).filter(([, value]) => value !== null));
  const all: Record<string, unknown> = said(data);
  for (const key of ["schedules", "axes", "prepare"]) if (isMapping(all[key])) all[key] = said(all[key]);
  return all;
}

/** The layers of a file and of those it extends, the most basic first. */
async function layersOf(file: string, above: readonly string[]): Promise<Layer[]> {
  const full = resolve(file);
  if (above.includes(full)) throw new ConfigError(["extends"], "extends makes a circle.", file);
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new ConfigError([], `cannot read the study: ${fileReason(cause) ?? cause}.`, file);
  });
  const { data, origins } = parseLayer(text, file);
  const { extends: parent, ...own } = data;
  if (typeof own.base === "string") own.base = relative(".", resolve(dirname(file), own.base));
  const layer = { data: own, origins };
  if (parent === undefined) return [layer];
  if (typeof parent !== "string")
    throw new ConfigError(["extends"], `extends is ${JSON.stringify(parent)}; expected a file's name.`, file);
  return [...(await layersOf(relative(".", join(dirname(full), parent)), [...above, full])), layer];
}
