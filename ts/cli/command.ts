import type { Argv, CommandModule, InferredOptionTypes, Options } from "yargs";

interface Declaration<P extends Record<string, Options>, O extends Record<string, Options>> {
  /** As yargs writes it: "train <config> [overrides..]". */
  command: string | readonly string[];
  /** false: not shown in help. */
  describe: string | false;
  positionals?: P;
  options?: O;
  examples?: readonly (readonly [string, string])[];
  run: (args: InferredOptionTypes<P> & InferredOptionTypes<O>) => Promise<void>;
}

/** Declares a command with typed arguments. */
export function defineCommand<
  const P extends Record<string, Options> = Record<never, Options>,
  const O extends Record<string, Options> = Record<never, Options>,
>(d: Declaration<P, O>): CommandModule {
  return {
    command: d.command,
    describe: d.describe,
    builder: (y: Argv) => {
      for (const [name, option] of Object.entries(d.positionals ?? {})) y.positional(name, option as never);
      y.options(d.options ?? {});
      for (const [line, text] of d.examples ?? []) y.example(line, text);
      return y;
    },
    handler: (args) => d.run(args as never),
  };
}

/** Declares a command that only groups others: `thalweg data <prepare|inspect>`. */
export function defineGroup(name: string, describe: string, subcommands: readonly CommandModule[]): CommandModule {
  return {
    command: `${name} <command>`,
    describe,
    builder: (y: Argv) => {
      for (const sub of subcommands) y.command(sub);
      return y.demandCommand(1, `Name a ${name} command; \`thalweg ${name} --help\` lists them.`);
    },
    handler: () => undefined,
  };
}

export const jsonOption = { type: "boolean", default: false, describe: "Print JSON on standard output." } as const;

/** Positionals of commands that read a run configuration. */
export const configPositionals = {
  config: { type: "string", demandOption: true, describe: "Run configuration (YAML)." },
  overrides: { type: "string", array: true, default: [] as string[], describe: "Fields to replace: batch.length=256" },
} as const;
