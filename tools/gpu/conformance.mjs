// Holds a GPU against the SIMT machine: both ran the same tiny kernels, one for each PTX wrapper (test/native/conformance).
//   node tools/gpu/conformance.mjs HOST_EXECUTABLE GPU_EXECUTABLE [--out FILE.json]
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execute, failureOf, jsonLines } from "./suite/execute.mjs";

/**
 * What a conformance program prints, { device, cases }. A case that hangs or breaks the device ends its program: the case
 * has that as its error, and the program is begun again behind it. `run(args)` gives { status, out, err }.
 */
export function allCases(run) {
  let device;
  const cases = [];
  for (;;) {
    const r = run(cases.length === 0 ? [] : ["--from", String(cases.length)]);
    const [about, ...found] = jsonLines(r.out);
    if (about === undefined) throw new Error(failureOf(r));
    device ??= about;
    cases.push(...found);
    if (r.status === 0) return { device, cases };
    const begun = /\{"name":"([^"]*)",[^\n]*$/.exec(r.out)?.[1];
    if (begun !== undefined) cases.push({ name: begun, error: failureOf(r) });
    else if (found.at(-1)?.error === undefined) throw new Error(failureOf(r));
  }
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
  const wrong = [];
  for (const [i, word] of host.words.entries()) {
    if (gpu.words[i] === word) continue;
    const [want, got] = [asFloat(word), asFloat(gpu.words[i])];
    const error = Math.abs(got - want) / Math.abs(want);
    if (host.tolerance !== 0 && error <= host.tolerance) worst = Math.max(worst, error);
    else
      wrong.push(
        `word ${i} is 0x${gpu.words[i].toString(16)} (${got}), the machine says 0x${word.toString(16)} (${want})`,
      );
  }
  if (wrong.length === 0) return { ok: true, detail: worst === 0 ? "same bits" : `within ${worst.toExponential(1)}` };
  // A layout shows in which words are wrong and whose value they have: some of them, from the whole range.
  const shown = wrong.filter((_, i) => i < 4 || i % Math.ceil(wrong.length / 8) === 0).slice(0, 12);
  return { ok: false, detail: `${wrong.length} of ${host.words.length} words differ: ${shown.join("; ")}` };
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

const SECONDS = 40; // all cases take a second or two

if (process.argv[1] === import.meta.filename) {
  const [host, gpu] = process.argv.slice(2).map((p) => (p.startsWith("--") ? null : p));
  if (!host || !gpu || !existsSync(host) || !existsSync(gpu)) {
    console.error("usage: node tools/gpu/conformance.mjs HOST_EXECUTABLE GPU_EXECUTABLE [--out FILE.json]");
    process.exit(2);
  }
  const [reference, device] = [host, gpu].map((path) =>
    allCases((args) => execute(process.cwd(), path, args, { seconds: SECONDS })),
  );
  const results = compareAll(reference, device);
  for (const r of results) console.log(`${r.ok ? (r.skipped ? "skip" : "ok  ") : "FAIL"} ${r.name}: ${r.detail}`);
  const failed = results.filter((r) => !r.ok).length;
  console.log(`${results.length - failed} of ${results.length} as on the SIMT machine (${device.device.name})`);
  const at = process.argv.indexOf("--out");
  const record = { ptxHash: ptxHash(join(import.meta.dirname, "../..")), device: device.device, results };
  if (at > 0) writeFileSync(process.argv[at + 1], `${JSON.stringify(record, null, 1)}\n`);
  process.exit(failed === 0 ? 0 : 1);
}
