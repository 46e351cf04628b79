import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parse, parseDocument, YAMLParseError } from "yaml";
import { ThalwegError } from "../base/errors.ts";
import { ConfigError, type ConfigPath, formatPath } from "./errors.ts";

/** What one file or one override says, and where it says it. */
export interface Layer {
  readonly data: Record<string, unknown>;
  /** "file:line" (or the override's text) of a value, by its formatted path. */
  readonly origins: ReadonlyMap<string, string>;
}

/** Deeper nesting is a mistake, or an alias that holds itself. */
const deepest = 32;

/** Reads YAML 1.2 text. Throws ConfigError with file and line when it is not YAML or its root is not a mapping. */
export function parseLayer(text: string, file: string): Layer {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const place = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem) throw new ConfigError([], `not valid YAML: ${problem.message}`, place(problem.pos[0]));
  const origins = new Map<string, string>();

  const convert = (node: Node | null, path: ConfigPath, at: string): unknown => {
    if (path.length > deepest) throw new ConfigError(path, `nested deeper than ${deepest} levels`, at);
    if (isAlias(node)) return convert(node.resolve(document) ?? null, path, at);
    const here = node?.range ? place(node.range[0]) : at;
    if (path.length > 0 && !origins.has(formatPath(path))) origins.set(formatPath(path), here);
    if (isSeq(node)) return node.items.map((item, i) => convert(item as Node | null, [...path, i], here));
    if (isScalar(node)) return node.value;
    if (!isMap(node)) return null;
    const fields: Record<string, unknown> = {};
    for (const { key, value } of node.items) {
      const keyNode = key as Node | null;
      const line = keyNode?.range ? place(keyNode.range[0]) : here;
      const name = fieldName(isScalar(keyNode) ? keyNode.value : keyNode, path, line);
      origins.set(formatPath([...path, name]), line);
      fields[name] = convert(value as Node | null, [...path, name], line);
    }
    return fields;
  };

  const data = convert(document.contents, [], `${file}:1`);
  if (data === null && document.contents === null) return { data: {}, origins };
  if (!isMapping(data)) throw new ConfigError([], "the config must be a mapping of fields", `${file}:1`);
  return { data, origins };
}

function fieldName(key: unknown, path: ConfigPath, at: string): string {
  const where = path.length === 0 ? "the config" : formatPath(path);
  if (typeof key !== "string" || key === "__proto__")
    throw new ConfigError(path, `${where} has a field named ${JSON.stringify(key)}; expected a name.`, at);
  return key;
}

/** A plain mapping: neither null nor a list. */
export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An override taken apart. */
export interface Override {
  readonly path: ConfigPath;
  readonly value: unknown;
  readonly text: string;
}

/**
 * Takes `a.b[1].c=VALUE` apart; the value is YAML 1.2, so `[1, 2]`, `{ steps: 10 }`, `null` and 1e-3 mean what they mean in
 * a file. Throws BAD_OPTION.
 */
export function parseOverride(text: string): Override {
  const equals = text.indexOf("=");
  const name = equals < 0 ? "" : text.slice(0, equals).trim();
  if (!/^[A-Za-z_][\w-]*(\.[\w-]+|\[\d+\])*$/.test(name))
    throw new ThalwegError("BAD_OPTION", `override ${JSON.stringify(text)} is not of the form field.name=value.`);
  const path = name.match(/[\w-]+/g)!.map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  if (path.includes("__proto__")) throw new ThalwegError("BAD_OPTION", `override ${text} names no field.`);
  try {
    return { path, value: parse(text.slice(equals + 1)), text };
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new ThalwegError("BAD_OPTION", `override ${text}: the value is not YAML: ${error.message.split("\n")[0]}`);
  }
}
