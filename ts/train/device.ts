import { join } from "node:path";
import { Engine } from "../engine/engine.ts";
import { enginePrecision } from "./model_config.ts";
import { initializeWeights, loadModule, ModuleMachine } from "./module_machine.ts";
import { measurePeak } from "./peak.ts";
import { AVERAGE_FILE, MODEL_FILE, OPTIMIZER_FILE } from "./saver.ts";
import type { PlannedRun } from "./setup.ts";
import type { Start } from "./start.ts";

/** The run's model on its device. */
export interface LoadedRun extends AsyncDisposable {
  engine: Engine;
  machine: ModuleMachine;
}

/** Opens the device, loads the Module, and puts the weights in that the start names. */
export async function loadRun(plan: PlannedRun, start: Start): Promise<LoadedRun> {
  const { config, built } = plan;
  const engine = await Engine.create({ device: config.device, threads: config.threads });
  try {
    const module = await loadModule(engine, built);
    const machine = new ModuleMachine(module, built, config.optimizer);
    let goesOn = false; // a moving average that the checkpoint has
    if (start.kind === "start") await initializeWeights(module, built.parameters, config.seed);
    else if (start.kind === "init") await machine.load({ model: start.weights, optimizer: null });
    else {
      const { path, manifest } = start.checkpoint;
      goesOn = machine.averages && AVERAGE_FILE in manifest.files;
      const average = goesOn ? join(path, AVERAGE_FILE) : null;
      await machine.load({ model: join(path, MODEL_FILE), optimizer: join(path, OPTIMIZER_FILE), average });
    }
    if (machine.averages && !goesOn) await machine.startAverage();
    await module.refresh();
    return { engine, machine, [Symbol.asyncDispose]: () => engine.dispose() };
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}

/** Measured peaks by device and precision: one measurement serves every run of a process. */
const peaks = new Map<string, Promise<number>>();

export function peakOf(engine: Engine, plan: PlannedRun): Promise<number> {
  const precision = enginePrecision(plan.config.precision);
  const key = `${engine.info.deviceClass}/${engine.info.threads}/${precision}`;
  const known = peaks.get(key) ?? measurePeak(engine, precision);
  peaks.set(key, known);
  return known;
}
