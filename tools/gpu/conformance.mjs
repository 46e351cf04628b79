// Holds a GPU against the SIMT machine: both ran the same tiny kernels, one for each PTX wrapper (test/native/conformance).
//   node tools/gpu/conformance.mjs HOST_EXECUTABLE GPU_EXECUTABLE [--out FILE.json]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The lines a conformance program printed: { device, cases }. */
export function readCases(text) {
  const [device, ...cases] = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  return { device, cases };
}

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);
function asFloat(word) {
  words[0] = word;
  return floats[0];
}

/** { ok, detail } of one case; with a tolerance the words are fp32. */
export function compareCase(host, gpu) {
  if (gpu === undefined) return { ok: false, detail: "the GPU's program does not have it" };
  if (gpu.skipped ?? host.skipped) return { ok: true, skipped: true, detail: gpu.skipped ?? host.skipped };
  if (gpu.error ?? host.error) return { ok: false, detail: gpu.error ?? host.error };
  if (gpu.words.length !== host.words.length)
    return { ok: false, detail: `${gpu.words.length} words, expected ${host.words.length}` };
  let worst = 0;
  for (const [i, word] of host.words.entries()) {
    if (gpu.words[i] === word) continue;
    const [want, got] = [asFloat(word), asFloat(gpu.words[i])];
    const error = Math.abs(got - want) / Math.abs(want);
    if (host.tolerance === 0 || !(error <= host.tolerance))
      return {
        ok: false,
        detail: `word ${i} is 0x${gpu.words[i].toString(16)} (${got}), the machine says 0x${word.toString(16)} (${want})`,
      };
    worst = Math.max(worst, error);
  }
  return { ok: true, detail: worst === 0 ? "same bits" : `within ${worst.toExponential(1)}` };
}

export function compareAll(host, gpu) {
  const byName = new Map(gpu.cases.map((c) => [c.name, c]));
  return host.cases.map((c) => ({ name: c.name, ...compareCase(c, byName.get(c.name)) }));
}

/** Hash of the PTX headers: a conformance result speaks of these and no others. */
export function ptxHash(root) {
  const dir = join(root, "native/cuda/ptx");
  const hash = createHash("sha256");
  for (const file of readdirSync(dir).sort()) hash.update(file).update(readFileSync(join(dir, file)));
  return hash.digest("hex").slice(0, 16);
}

function run(executable) {
  const r = spawnSync(executable, [], { encoding: "utf8", maxBuffer: 1 << 28 });
  if (r.status !== 0) throw new Error(`${executable} failed: ${r.stderr || r.error}`);
  return readCases(r.stdout);
}

if (process.argv[1] === import.meta.filename) {
  const [host, gpu] = process.argv.slice(2).map((p) => (p.startsWith("--") ? null : p));
  if (!host || !gpu || !existsSync(host) || !existsSync(gpu)) {
    console.error("usage: node tools/gpu/conformance.mjs HOST_EXECUTABLE GPU_EXECUTABLE [--out FILE.json]");
    process.exit(2);
  }
  const device = run(gpu);
  const results = compareAll(run(host), device);
  for (const r of results) console.log(`${r.ok ? (r.skipped ? "skip" : "ok  ") : "FAIL"} ${r.name}: ${r.detail}`);
  const failed = results.filter((r) => !r.ok).length;
  console.log(`${results.length - failed} of ${results.length} as on the SIMT machine (${device.device.name})`);
  const at = process.argv.indexOf("--out");
  const record = { ptxHash: ptxHash(join(import.meta.dirname, "../..")), device: device.device, results };
  if (at > 0) writeFileSync(process.argv[at + 1], `${JSON.stringify(record, null, 1)}\n`);
  process.exit(failed === 0 ? 0 : 1);
}
