/** Writes configs/schema.json, the JSON Schema of run configs for editors. Run: npx tsx tools/generate-config-schema.ts */
import { writeFileSync } from "node:fs";
import { runJsonSchemaText } from "../ts/config/json_schema.ts";

writeFileSync(new URL("../configs/schema.json", import.meta.url), runJsonSchemaText());
