import { existsSync } from "node:fs";
import { join } from "node:path";
import { ExitCode } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { runReport } from "../report/run_report.ts";
import { loadRun } from "../train/compare.ts";
import { print, printJson } from "./output.ts";
import { runStudyReport } from "./study_command.ts";

/** `thalweg report`: of a study when the one folder is one, else of runs. */
export async function runReportCommand(args: {
  folders: string[];
  out: string | undefined;
  json: boolean;
}): Promise<number> {
  const [first, ...others] = args.folders;
  if (others.length === 0 && existsSync(join(first!, "plan.json")))
    return runStudyReport({ folder: first!, json: args.json });
  const page = args.out ?? join(first!, "report.html");
  await writeFileAtomic(page, runReport(await Promise.all(args.folders.map(loadRun))));
  if (args.json) printJson({ report: page });
  else print(`report: ${page}`);
  return ExitCode.ok;
}
