import { sep } from "node:path";

/** True when an input that is no existing file asks for pattern matching. */
export function isGlob(input: string): boolean {
  return /[*?{[]/.test(input);
}

/** Names under the longest folder without pattern characters that match the rest; `walk` lists a folder. */
export async function globFiles(
  pattern: string,
  walk: (folder: string) => Promise<string[]>,
): Promise<{ base: string; names: string[] }> {
  const parts = pattern.split(sep).join("/").split("/");
  const first = parts.findIndex(isGlob);
  const base = parts.slice(0, first).join("/") || (pattern.startsWith("/") ? "/" : ".");
  const matcher = globRegExp(parts.slice(first).join("/"));
  const names = await walk(base).catch(() => [] as string[]);
  return { base, names: names.filter((name) => matcher.test(name)) };
}

/** `*` within a folder, `**` across folders, `?` one character, `{a,b}` either, `[abc]` one of. */
export function globRegExp(glob: string): RegExp {
  let depth = 0;
  const source = glob.replace(/\*\*\/|\*\*|\*|\?|\{|\}|,|\[[^\]]*\]|[^\w]/g, (token) => {
    if (token === "**/") return "(?:[^/]+/)*";
    if (token === "**") return ".*";
    if (token === "*") return "[^/]*";
    if (token === "?") return "[^/]";
    if (token === "{") return depth++ >= 0 ? "(?:" : "";
    if (token === "}" && depth > 0) return depth-- > 0 ? ")" : "";
    if (token === "," && depth > 0) return "|";
    if (token.length > 1) return token.replace(/^\[!/, "[^").replaceAll("\\", "\\\\");
    return token === "/" ? "/" : token.replace(/[\\^$.|+()[\]{}*?-]/g, "\\$&");
  });
  return new RegExp(`^${source}$`);
}
