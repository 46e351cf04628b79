import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { decodeUtf8, type InputFile } from "../documents.ts";

const extensions = [".md", ".ts", ".js", ".mjs"];
const smallestFile = 500;
const largestFile = 200_000;
const licences = /^(licen[cs]e|copying|notice|third.?party)/i;

/**
 * Text files of the packages installed under a node_modules folder: documentation, type declarations and sources. Real
 * text that is present wherever this project is installed, and pinned by its lockfile: packages for one system only
 * (`os` or `cpu` in package.json) and optional ones are left out, so that every machine sees the same. Sorted by path;
 * the group of a file is its package's name, whatever its version.
 */
export async function packageFiles(root: string): Promise<InputFile[]> {
  const files: InputFile[] = [];
  const optional = await optionalFolders(root);
  await visitPackages(root, "packages", files, (folder) => optional.has(folder));
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Folders of the packages that an installation may leave out, as npm noted them when it installed. */
async function optionalFolders(root: string): Promise<Set<string>> {
  const text = await readFile(join(root, ".package-lock.json"), "utf8").catch(() => "{}");
  const { packages = {} } = JSON.parse(text) as { packages?: Record<string, { optional?: boolean }> };
  const optional = Object.keys(packages).filter((path) => packages[path]!.optional);
  return new Set(optional.map((path) => join(dirname(root), path)));
}

async function visitPackages(
  folder: string,
  name: string,
  files: InputFile[],
  skip: (folder: string) => boolean = () => false,
  scope = "",
): Promise<void> {
  for (const entry of await folders(folder)) {
    const path = join(folder, entry);
    if (skip(path)) continue;
    if (entry.startsWith("@") && scope === "") await visitPackages(path, `${name}/${entry}`, files, skip, `${entry}/`);
    else if (await isPortable(path)) await visitFiles(path, `${name}/${entry}`, `${scope}${entry}`, files);
  }
}

async function visitFiles(folder: string, name: string, group: string, files: InputFile[]): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const inner = `${name}/${entry.name}`;
    if (entry.isDirectory() && entry.name === "node_modules") await visitPackages(path, inner, files);
    else if (entry.isDirectory()) await visitFiles(path, inner, group, files);
    else if (entry.isFile() && extensions.some((extension) => entry.name.endsWith(extension))) {
      const bytes = usableSize(path, entry.name);
      if (bytes > 0) files.push({ path, name: inner, bytes, group });
    }
  }
}

/** Folders, without links (workspaces) and hidden ones (.bin, caches). */
async function folders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith(".")).map((entry) => entry.name);
}

async function isPortable(folder: string): Promise<boolean> {
  const text = await readFile(join(folder, "package.json"), "utf8").catch(() => null);
  if (text === null) return false;
  try {
    const manifest = JSON.parse(text) as { os?: unknown; cpu?: unknown };
    return manifest.os === undefined && manifest.cpu === undefined;
  } catch {
    return false;
  }
}

/** Bytes of a file fit to learn from, 0 for any other. */
function usableSize(path: string, name: string): number {
  if (licences.test(name)) return 0;
  // Thousands of small files: asynchronous reads would take several times as long.
  const bytes = readFileSync(path);
  if (bytes.length < smallestFile || bytes.length > largestFile || bytes.includes(0)) return 0;
  const text = decodeUtf8(bytes);
  return text === null || isMinified(text, name) ? 0 : bytes.length;
}

/** Written by a machine for machines: lines far longer than people write. Prose may have a paragraph on a line. */
function isMinified(text: string, name: string): boolean {
  const lines = text.split("\n");
  const average = text.length / lines.length;
  return average > (name.endsWith(".md") ? 400 : 120) || lines.some((line) => line.length > 4000);
}
