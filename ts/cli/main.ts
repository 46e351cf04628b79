#!/usr/bin/env node
import { exitCodeOf } from "../base/errors.ts";
import { standardInputPath } from "../base/files.ts";
import { commands } from "./commands/index.ts";
import { topLevelHelp, usage } from "./help.ts";
import { print, printError } from "./output.ts";
import { version } from "./version.ts";

/** Set when a handler starts: an error before that is yargs' own, about the command line. */
let started = false;

const counted = "%s arguments given, %s or more expected: the command's --help names them.";
/** Of what is missing yargs knows the number only; its types know no plural. */
const missing = { one: counted, other: counted } as never;

/** What yargs could not read as the number that an option is. */
function refuseNotNumbers(options: Readonly<Record<string, unknown>>): true {
  const bad = Object.keys(options).filter((name) => Number.isNaN(options[name]));
  if (bad.length > 0) throw new Error(`--${bad.sort().at(0)} is not a number.`);
  return true;
}

async function parser(args: readonly string[]) {
  const { default: yargs } = await import("yargs");
  // Yargs drops a lone "-" among several positionals.
  const y = yargs(args.map((arg) => (arg === "-" ? standardInputPath : arg)))
    .scriptName("thalweg")
    .usage(usage)
    .version(version())
    .parserConfiguration({ "camel-case-expansion": false, "strip-aliased": true, "parse-positional-numbers": false })
    .strict()
    .recommendCommands()
    .demandCommand(1, "Name a command; `thalweg --help` lists them.")
    .exitProcess(false)
    .fail(false)
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .completion("completion", "Print a completion script for bash or zsh: add it to your shell's start-up file.")
    .updateStrings({ "Not enough non-option arguments: got %s, need at least %s": missing })
    .check(refuseNotNumbers)
    .middleware(() => {
      started = true;
    });
  for (const command of commands) y.command(command);
  return y;
}

/** Runs one command line; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  if (args.length === 1 && (args[0] === "--help" || args[0] === "-h")) {
    print(topLevelHelp(commands));
    return 0;
  }
  try {
    await (await parser(args)).parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    printError(error);
    return started ? exitCodeOf(error) : 2;
  }
}

process.exitCode = await main(process.argv.slice(2));
