import { existsSync } from "node:fs";
import { join } from "node:path";
import anyTest from "ava";

/**
 * Device of these tests: `simt`, the CUDA kernels' own source on the host; or with THALWEG_TEST_DEVICE=cuda the one that
 * THALWEG_NATIVE has: a GPU, or the emulator of PTX (tools/test-emulator.mjs).
 */
export const gpu = process.env.THALWEG_TEST_DEVICE === "cuda" ? "cuda" : "simt";

/** The test addon has the CPU backend and device `simt`. `npm test` always builds it; a single test file can be run without. */
const addon = join(import.meta.dirname, "../../../out/native/Release/thalweg_simt_addon.node");
const built = gpu === "cuda" || existsSync(addon);
if (gpu === "simt" && built) process.env.THALWEG_NATIVE = addon; // taken when the first engine is made

export const gpuTest = built ? anyTest : anyTest.skip;
/** Of what only the SIMT machine says or does. */
export const simtTest = gpu === "simt" ? gpuTest : anyTest.skip;
