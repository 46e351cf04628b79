import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { standardInputPath } from "../../base/files.ts";
import { type InputFile, standardInput } from "../documents.ts";
import { globFiles, isGlob } from "./globs.ts";
import { packageFiles } from "./packages.ts";

export const defaultExtensions: readonly string[] = [
  ".txt",
  ".jsonl",
  ".md",
  ".ts",
  ".js",
  ".json",
  ".parquet",
  ".txt.gz",
  ".jsonl.gz",
  ".json.gz",
  ".txt.zst",
  ".jsonl.zst",
  ".json.zst",
];
const packagesPrefix = "packages:";

/**
 * The files of inputs, in the order they will be read: a file, a folder (recursive, sorted by path; hidden and
 * node_modules folders skipped), a glob (`*`, `**`, `?`, `{a,b}`, `[abc]`), `packages:node_modules`, or `-` for standard
 * input.
 * @throws ThalwegError BAD_INPUT when an input gives nothing
 */
export async function listFiles(
  inputs: readonly string[],
  options: { readonly extensions?: readonly string[] } = {},
): Promise<InputFile[]> {
  const files: InputFile[] = [];
  for (const input of inputs) files.push(...(await filesOf(input, options.extensions ?? defaultExtensions)));
  if (files.filter((file) => file.path === standardInput).length > 1)
    throw new ThalwegError("BAD_INPUT", "standard input (-) can be read once only");
  return files;
}

async function filesOf(input: string, extensions: readonly string[]): Promise<InputFile[]> {
  const fail = (what: string): never => {
    throw new ThalwegError("BAD_INPUT", `input "${input}" ${what}`);
  };
  if (input.startsWith(packagesPrefix)) {
    const files = await packageFiles(input.slice(packagesPrefix.length));
    return files.length > 0 ? files : fail("has no packages with documentation or sources: run npm ci first");
  }
  if (input === standardInput || input === standardInputPath) return [{ path: standardInput, name: "stdin", bytes: 0 }];
  const info = await stat(input).catch(() => null);
  if (info?.isFile()) return [{ path: input, name: basename(input), bytes: info.size }];
  if (info?.isDirectory()) {
    const files = (await walk(input)).filter((name) => extensions.some((extension) => name.endsWith(extension)));
    return files.length > 0 ? withSizes(input, files) : fail(`has no files ending in ${extensions.join(" ")}`);
  }
  if (isGlob(input)) {
    const { base, names } = await globFiles(input, walk);
    return names.length > 0 ? withSizes(base, names) : fail("matches no file");
  }
  return fail("does not exist: expected a file, a folder, a glob, packages:node_modules or - for standard input");
}

async function withSizes(base: string, names: readonly string[]): Promise<InputFile[]> {
  const files: InputFile[] = [];
  for (const name of names) {
    const path = join(base, name);
    files.push({ path, name, bytes: (await stat(path)).size });
  }
  return files;
}

/** Files under a folder by relative path with "/", sorted by code unit, so that every system gives the same order. */
async function walk(folder: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (relative: string): Promise<void> => {
    for (const entry of await readdir(join(folder, relative), { withFileTypes: true })) {
      if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
      const path = relative === "" ? entry.name : `${relative}/${entry.name}`;
      if (entry.isDirectory()) await visit(path);
      else if (
        entry.isFile() ||
        (entry.isSymbolicLink() && (await stat(join(folder, path)).catch(() => null))?.isFile())
      )
        found.push(path);
    }
  };
  await visit("");
  return found.sort((a, b) => (a < b ? -1 : 1));
}
