import { z } from "zod";
import { runSchema } from "./schema.ts";

/** JSON Schema (draft 7, which YAML editors read) of what a config file may say. */
export function runJsonSchema(): Record<string, unknown> {
  const { $schema, properties, ...rest } = z.toJSONSchema(runSchema, { io: "input", target: "draft-7" });
  return {
    $schema,
    title: "Thalweg run",
    ...rest,
    properties: {
      extends: { type: "string", description: "Another config, relative to this one, whose values this one replaces." },
      ...properties,
    },
    // A file that extends another may leave everything to it.
    required: [],
  };
}

/** The text of configs/schema.json. */
export function runJsonSchemaText(): string {
  return `${JSON.stringify(runJsonSchema(), null, 2)}\n`;
}
