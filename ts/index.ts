/** The public face of Thalweg as a library; the command line is built on the same functions. */
export { ExitCode, exitCodeOf, ThalwegError } from "./base/errors.ts";
export { type LoadedConfig, loadRunConfig, parseRunConfig } from "./config/load.ts";
export type { RunConfig, RunConfigInput } from "./config/schema.ts";
export * from "./data/index.ts";
export { cpuFeatures, Engine, type EngineOptions, Module, planMemory, Snapshot } from "./engine/engine.ts";
export type { ModuleSpec, Program } from "./engine/program.ts";
export { type BuildOptions, type BuiltModule, buildModule, buildPrograms } from "./model/build.ts";
export type { LlamaConfig } from "./model/llama.ts";
export { preset, presets } from "./model/presets.ts";
export { adamScalars, adamw } from "./optim/adamw.ts";
export { curvesSvg } from "./report/curves.ts";
export { buildSchedule, type Phase, type Schedule } from "./schedule/index.ts";
export { loadRun } from "./train/compare.ts";
export { evaluateCheckpoint } from "./train/evaluate_checkpoint.ts";
export { generateText } from "./train/generate.ts";
export { progressReporter } from "./train/progress.ts";
export { type Reporter, silentReporter } from "./train/reporter.ts";
export { type RunOptions, type RunResult, runTraining } from "./train/run.ts";
