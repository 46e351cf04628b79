import { configPositionals, defineCommand, defineGroup, jsonOption } from "../command.ts";
import { print, printJson } from "../output.ts";

const show = defineCommand({
  command: "show <config> [overrides..]",
  describe: "Print a configuration as it resolves, with the source of each value",
  positionals: configPositionals,
  options: { json: jsonOption },
  run: async (args) => {
    const [{ loadRunConfig }, { formatTable }] = await Promise.all([
      import("../../config/load.ts"),
      import("../../report/table.ts"),
    ]);
    const loaded = await loadRunConfig(args.config, args.overrides);
    if (args.json) return printJson({ config: loaded.config, sources: loaded.sources, hash: loaded.hash });
    const value = (path: string): unknown =>
      path
        .split(/[.[\]]+/)
        .filter(Boolean)
        .reduce((v: unknown, key) => (v as Record<string, unknown> | undefined)?.[key], loaded.config);
    const rows = Object.entries(loaded.sources).map(([path, source]) => [path, JSON.stringify(value(path)), source]);
    print(formatTable(["field", "value", "source"], rows));
  },
});

const schema = defineCommand({
  command: "schema",
  describe: "Print the JSON Schema of run configurations, for editors",
  run: async () => {
    const { runJsonSchemaText } = await import("../../config/json_schema.ts");
    print(runJsonSchemaText());
  },
});

export const config = defineGroup("config", "Look at configurations", [show, schema]);
