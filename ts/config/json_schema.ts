import { z } from "zod";
import { runSchema } from "./schema.ts";

/** JSON Schema (draft 7, which YAML editors read) of what a config file may say. */
export function runJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(runSchema, {
    io: "input",
    target: "draft-7",
    // A file that extends another may leave any field to it; the loader tells what is missing in the end.
    override: ({ jsonSchema }) => void delete jsonSchema.required,
  });
  const { $schema, properties, ...rest } = schema;
  const base = { type: "string", description: "Another config, relative to this one, whose values this one replaces." };
  return { $schema, title: "Thalweg run", ...rest, properties: { extends: base, ...properties } };
}

/** The text of configs/schema.json. */
export function runJsonSchemaText(): string {
  return `${JSON.stringify(runJsonSchema(), null, 2)}\n`;
}
