import { defineCommand, jsonOption } from "../command.ts";
import { print, printJson } from "../output.ts";

export const doctor = defineCommand({
  command: "doctor",
  describe: "Check this machine: Node, addon, processor, memory, disk, GPU",
  options: { json: jsonOption },
  run: async (args) => {
    const [{ examine }, { formatTable }] = await Promise.all([
      import("../../train/doctor.ts"),
      import("../../report/table.ts"),
    ]);
    const { findings, exitCode } = await examine();
    process.exitCode = exitCode;
    if (args.json) return printJson(findings);
    print(
      formatTable(
        ["", "", ""],
        findings.map((f) => [f.ok ? "ok" : "PROBLEM", f.what, f.found]),
      ),
    );
    for (const f of findings) if (f.advice) print(`\n${f.what}: ${f.advice}`);
  },
});
