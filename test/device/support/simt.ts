import { existsSync } from "node:fs";
import { join } from "node:path";
import anyTest from "ava";

/** The test addon: it has the CPU backend and device `simt`, the CUDA kernels' own source on the host. */
const addon = join(import.meta.dirname, "../../../out/native/Release/thalweg_simt_addon.node");
const built = existsSync(addon);
if (built) process.env.THALWEG_NATIVE = addon; // taken when the first engine is made

/** `npm test` always builds the addon; a single test file can be run without. */
export const simtTest = built ? anyTest : anyTest.skip;
