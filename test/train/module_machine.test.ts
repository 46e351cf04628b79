import test from "ava";
import { Engine } from "../../ts/engine/engine.ts";
import { preset } from "../../ts/model/presets.ts";
import { adamDefaults } from "../../ts/optim/adamw.ts";
import { randomBatch } from "../../ts/train/benchmark.ts";
import { loadModule, ModuleMachine } from "../../ts/train/module_machine.ts";
import { tinyModule } from "../model/tiny.ts";

test("an engine that is disposed while steps are under way leaves no rejection unhandled", async (t) => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on("unhandledRejection", note);
  t.teardown(() => process.off("unhandledRejection", note));
  const built = tinyModule(preset("quickstart"), { microBatch: 4, length: 128 });
  const engine = await Engine.create({ threads: 1 });
  const module = await loadModule(engine, built, 1);
  const machine = new ModuleMachine(module, built, adamDefaults);
  const batch = randomBatch(256, 4, 128, 1, 0);
  const never = new AbortController().signal;
  const steps = Array.from({ length: 20 }, (_, i) => machine.step(batch, i, { lr: 1e-3 }, never));
  const settled = Promise.allSettled(steps);
  await steps[0];
  await engine.dispose();
  t.true(
    (await settled).some((s) => s.status === "rejected"),
    "some steps were cancelled",
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.deepEqual(unhandled, []);
});
