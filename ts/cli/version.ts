import { readFileSync } from "node:fs";

/** Version of the package, from the package.json beside ts/ or dist/. */
export function version(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
