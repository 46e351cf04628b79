import type { z } from "zod";
import { ConfigError, type ConfigPath, formatPath } from "./errors.ts";

type Issue = z.core.$ZodIssue;
type Schema = z.core.$ZodType;

/** How a message shows what was found. */
export function showValue(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

const typeWords: Record<string, string> = {
  object: "a mapping",
  array: "a list",
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
};

/** What a value had to be, as a phrase. */
function expectation(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return typeWords[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.length === 1 ? String(issue.values[0]) : `one of ${issue.values.join(", ")}`;
    case "too_small": {
      const size =
        issue.origin === "array" ? "a list of at least" : issue.origin === "string" ? "text of at least" : "at least";
      return issue.inclusive === false ? `more than ${issue.minimum}` : `${size} ${issue.minimum}`;
    }
    case "too_big":
      return issue.inclusive === false ? `less than ${issue.maximum}` : `at most ${issue.maximum}`;
    default:
      return issue.message;
  }
}

/** Edits (insert, delete, replace, swap of neighbours) that turn one name into the other. */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(row[j - 1]! + 1, rows[i - 1]![j]! + 1, rows[i - 1]![j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

/** The known name nearest to `name`, when it is near enough to be what was meant. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let distance = Math.max(2, Math.floor(name.length / 2)) + 1;
  for (const candidate of known) {
    const d = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (d < distance) [best, distance] = [candidate, d];
  }
  return best;
}

/** The schemas below `schema` at `path`, through defaults, optionals, transforms and unions. */
function schemasAt(schema: Schema, path: ConfigPath): Schema[] {
  const def = schema._zod.def as unknown as Record<string, unknown> & { type: string };
  if (def.innerType) return schemasAt(def.innerType as Schema, path);
  if (def.type === "pipe") return schemasAt(def.in as Schema, path);
  if (def.type === "union") return (def.options as Schema[]).flatMap((option) => schemasAt(option, path));
  const [head, ...rest] = path;
  if (head === undefined) return [schema];
  if (def.type === "array" && typeof head === "number") return schemasAt(def.element as Schema, rest);
  const field = def.type === "object" ? (def.shape as Record<string, Schema>)[head] : undefined;
  return field ? schemasAt(field, rest) : [];
}

/** Names of the fields a mapping at `path` may have. */
export function fieldsAt(schema: Schema, path: ConfigPath): string[] {
  const shapes = schemasAt(schema, path).map((found) => (found._zod.def as { shape?: object }).shape ?? {});
  return shapes.flatMap((shape) => Object.keys(shape));
}

function valueAt(root: unknown, path: ConfigPath): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

/** One problem as a path and a sentence. */
function explain(schema: Schema, root: unknown, issue: Issue, prefix: ConfigPath): { path: ConfigPath; text: string } {
  const inner = issue.path as ConfigPath;
  const path = [...prefix, ...inner];
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const fields = fieldsAt(schema, inner);
    const nearest = nearestName(key, fields);
    const hint = nearest ? `Did you mean ${nearest}?` : `Known here: ${fields.join(", ")}.`;
    return { path: [...path, key], text: `${formatPath([...path, key])} is not a known field. ${hint}` };
  }
  const found = valueAt(root, inner);
  const name = formatPath(path) || "the config";
  if (issue.code === "custom" && issue.message.startsWith("exactly one"))
    return { path, text: `${name} must have ${issue.message}.` };
  if (found === undefined) return { path, text: `${name} is missing; expected ${expectation(issue)}.` };
  return { path, text: `${name} is ${showValue(found)}; expected ${expectation(issue)}.` };
}

/** How many problems one message lists. */
const listed = 5;

/**
 * Zod's issues as one ConfigError, a line for each. Unknown fields are told alone: a misspelt field is also a missing one.
 * @param prefix where `root` stands in the whole config
 * @param locate gives "file:line" for a path, where there is one
 */
export function configError(
  schema: Schema,
  root: unknown,
  issues: readonly Issue[],
  prefix: ConfigPath = [],
  locate: (path: ConfigPath) => string | undefined = () => undefined,
): ConfigError {
  const unknown = issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? issue.keys.map((key) => ({ ...issue, keys: [key] })) : [],
  );
  const chosen = unknown.length > 0 ? unknown : issues;
  const problems = chosen.slice(0, listed).map((issue) => explain(schema, root, issue, prefix));
  const lines = problems.map(({ path, text }, i) => {
    const location = i === 0 ? undefined : locate(path);
    return location === undefined ? text : `${location}  ${text}`;
  });
  if (chosen.length > listed) lines.push(`and ${chosen.length - listed} more`);
  return new ConfigError(problems[0]!.path, lines.join("\n"), locate(problems[0]!.path));
}
