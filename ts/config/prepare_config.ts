import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { ThalwegError } from "../base/errors.ts";

/** What `data prepare --config` reads: the inputs of one dataset, to be kept with the runs that use it. */
export const prepareSchema = z.strictObject({
  inputs: z.array(z.string().min(1)).min(1).describe("Files, folders, globs."),
  validationInputs: z.array(z.string().min(1)).min(1).optional().describe("Text for validation of its own."),
  output: z.string().min(1).describe("Folder to make."),
  tokenizer: z.string().min(1).default("bytes").describe("bytes, gpt2, or a folder with a tokenizer.json."),
  field: z.string().min(1).optional().describe("Field or column that holds the text. Default: text."),
  deduplicate: z.boolean().default(true).describe("Drop documents whose text was met before."),
});

export type PrepareConfig = z.output<typeof prepareSchema>;

/** @throws ThalwegError BAD_CONFIG naming the file and each field that does not fit */
export function readPrepareConfig(path: string): PrepareConfig {
  let value: unknown;
  try {
    value = parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new ThalwegError("BAD_CONFIG", `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const parsed = prepareSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".") || "the file"}: ${issue.message}`);
  throw new ThalwegError("BAD_CONFIG", `${path}: ${issues.join("; ")}`);
}
