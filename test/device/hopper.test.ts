/**
 * A model whose matrix products are large enough for the wgmma kernel on a simulated sm_90 (test/native/cuda/
 * hopper_matmul_tiles_test.cpp asserts that for these sizes), against the CPU backend.
 */
import { buildModule } from "../../ts/model/build.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamw } from "../../ts/optim/adamw.ts";
import { compareDevices, toleranceOf } from "../../ts/train/compare_devices.ts";
import { gpu, gpuTest as test } from "./support/gpu.ts";

const [batch, length] = [2, 128];
const model = llamaConfig({
  vocab: 320,
  dim: 192,
  layers: 1,
  heads: 3,
  kvHeads: 3,
  headDim: 64,
  ffn: 256,
  maxLength: length,
});

test("bf16: linear, dgrad and wgrad of a whole step by wgmma differ from the CPU's by no more than roundings", async (t) => {
  const built = buildModule(model, {
    precision: "bf16",
    microBatch: batch,
    length,
    kinds: ["accumulate", "update"],
    update: adamw(),
    headChunkRows: batch * length,
  });
  const found = await compareDevices({
    ...{ built, kinds: ["accumulate", "update"], devices: ["cpu", gpu] },
    ...{ vocab: model.vocab, batch, length, optimizer: adamDefaults },
  });
  const least = { linear: 4, linearDgrad: 4, linearWgrad: 5, linearSwiglu: 1, linearDgradSwiglu: 1 };
  for (const [op, count] of Object.entries(least)) {
    const own = found.filter((c) => c.op === op);
    t.true(own.length >= count, `${own.length} commands of ${op}`);
    for (const c of own) t.true(c.relativeError <= toleranceOf("bf16"), JSON.stringify(c));
  }
});
