import type { CommandModule } from "yargs";
import { bench } from "./bench.ts";
import { compare } from "./compare.ts";
import { config } from "./config.ts";
import { data } from "./data.ts";
import { decay } from "./decay.ts";
import { doctor } from "./doctor.ts";
import { evaluate } from "./eval.ts";
import { generate } from "./generate.ts";
import { inspect } from "./inspect.ts";
import { merge } from "./merge.ts";
import { quickstart } from "./quickstart.ts";
import { report } from "./report.ts";
import { schedule } from "./schedule.ts";
import { study } from "./study.ts";
import { tokenizer } from "./tokenizer.ts";
import { train } from "./train.ts";
import { tune } from "./tune.ts";
import { watch } from "./watch.ts";

/**
 * Every command: a file each. A command file holds names, options and help only, and imports what it runs when it runs,
 * so that `--help` stays fast.
 */
export const commands: readonly CommandModule[] = [
  train,
  evaluate,
  generate,
  data,
  tokenizer,
  schedule,
  decay,
  merge,
  study,
  tune,
  watch,
  report,
  compare,
  inspect,
  config,
  bench,
  doctor,
  quickstart,
];
