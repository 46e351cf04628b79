import type { CommandModule } from "yargs";

export const usage =
  "thalweg <command>\n\nTrain language models under warmup-stable-decay schedules, and measure what they do.";

/**
 * The page of `thalweg --help`. Ours, so that the question asked most often is answered without loading the parser, which
 * takes twice as long as Node itself to start.
 */
export function topLevelHelp(commands: readonly CommandModule[]): string {
  const rows = commands.map(({ command, describe }) => [`thalweg ${command}`, String(describe)] as const);
  rows.push(["thalweg completion", "Print a completion script for bash or zsh: add it to your shell's start-up file"]);
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return [
    usage,
    "",
    ...rows.map(([usage, text]) => `  ${usage.padEnd(width)}  ${text}`),
    "",
    "Each command has --help of its own. First steps: thalweg quickstart",
  ].join("\n");
}
