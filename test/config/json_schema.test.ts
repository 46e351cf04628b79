import { readdirSync, readFileSync } from "node:fs";
import test from "ava";
import { runJsonSchema } from "../../ts/config/json_schema.ts";
import { loadRunConfig } from "../../ts/config/load.ts";
import { planRun } from "../../ts/schedule/run_plan.ts";
import { resolveModel } from "../../ts/train/model_config.ts";

const configs = new URL("../../configs/", import.meta.url);

test("configs/schema.json is up to date (npx tsx tools/generate-config-schema.ts)", (t) => {
  t.deepEqual(JSON.parse(readFileSync(new URL("schema.json", configs), "utf8")), runJsonSchema());
});

test("every field says what it is for", (t) => {
  const silent: string[] = [];
  const walk = (schema: Record<string, unknown>, path: string): void => {
    for (const [name, field] of Object.entries((schema.properties ?? {}) as Record<string, Record<string, unknown>>)) {
      if (typeof field.description !== "string") silent.push(`${path}${name}`);
      walk(field, `${path}${name}.`);
    }
    if (schema.items) walk(schema.items as Record<string, unknown>, `${path}[].`);
  };
  walk(runJsonSchema(), "");
  t.deepEqual(silent, []);
});

for (const name of readdirSync(configs).filter((file) => file.endsWith(".yaml"))) {
  test(`configs/${name} loads, and its model and schedule fit together`, async (t) => {
    const loaded = await loadRunConfig(new URL(name, configs).pathname);
    t.true(planRun(loaded).steps! > 0);
    const length = loaded.config.batch.length;
    const model = resolveModel(loaded.config.model, { length, vocab: 256 });
    t.true(model.maxLength >= length);
  });
}
