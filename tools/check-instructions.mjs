// Disassembles the CUDA build and asserts the instructions that were meant: tensor cores where there should be, 16-byte
// accesses in the kernels bound by memory, as many of them under way as were meant, no local memory anywhere, no register of a wgmma under way touched before its wait,
// none used beyond what setmaxnreg left.
//   node tools/check-instructions.mjs [--build out/cuda] [--architectures 80,90a] [--cuobjdump PATH]
// cuobjdump and nvdisasm come with the CUDA toolkit; where there is none, it says so and passes.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { shortName } from "./kernel_names.mjs";
import { loadsTogether, productHazards, releasedRegisters } from "./product_hazards.mjs";

const { values: options } = parseArgs({
  options: {
    build: { type: "string", default: "out/cuda" },
    architectures: { type: "string", default: "80,90a" },
    cuobjdump: { type: "string", default: "cuobjdump" },
  },
});

const loads = /LDG\.E(\.\w+)*\.128/;
const stores = /STG\.E(\.\w+)*\.128/;
const tensorCores = { "mma.sync": /HMMA\.16816\.F32\.BF16/, ldmatrix: /LDSM/, "cp.async": /LDGSTS/ };
/** Between the wait for the first of two groups of products and the wait for the second. */
const underProducts = (count) => ({
  test: (code) =>
    code
      .split(/WARPGROUP\.DEPBAR\.LE gsb0, /)
      .some((piece) => piece.startsWith("0x1") && (piece.match(/MUFU\.EX2/g)?.length ?? 0) >= count),
});
const hopper = {
  wgmma: /HGMMA\.64x\d+x16\.F32\.BF16/,
  "TMA loads": /UTMALDG\.4D/,
  "TMA stores": /UTMASTG\.4D/,
  setmaxnreg: /USETMAXREG\.TRY_ALLOC/,
};
const hopperMatmul = {
  "TMA loads": /UTMALDG\.2D/,
  multicast: /UTMALDG\.2D\.MULTICAST/,
  "TMA stores": /UTMASTG\.2D/,
  stmatrix: /STSM\.16\.M88\.4/,
  "addend by ldmatrix": /LDSM\.16\.M88\.4/,
  setmaxnreg: /USETMAXREG\.TRY_ALLOC/,
  // A release to the whole cluster would fence the GPU's memory at every step of the sum.
  "no fence between products": {
    test: (code) =>
      !code
        .split(/HGMMA/)
        .slice(1, -1)
        .some((p) => /MEMBAR\.ALL\.GPU/.test(p)),
  },
};
const { "addend by ldmatrix": gatedByLdmatrix, ...hopperSwiglu } = hopperMatmul;
const special = /MUFU\.EX2/;
/** A load that other blocks' writes are waited for with (ld.acquire.gpu). */
const turns = /LDG?\.E\S*\.STRONG\.GPU/;
const wide = { "16-byte loads": loads, "16-byte stores": stores };
/** Without them the memory's latency is waited for again and again. */
const together = (count) => ({ [`${count} loads under way`]: { test: (code) => loadsTogether(code) >= count } });

/** What a kernel must contain, by its name. */
const rules = [
  { kernel: /^matmul::mma_kernel</, must: { ...tensorCores, "16-byte stores": stores } },
  { kernel: /^matmul::swiglu_mma_kernel</, must: { ...tensorCores, "16-byte stores": stores, exponentials: special } },
  { kernel: /^matmul::swiglu_mma_kernel<\d, \(matmul::Fusion\)2>/, must: { "16-byte loads": loads } },
  {
    kernel: /^matmul::hopper::swiglu_wgmma_kernel</,
    must: { ...hopperSwiglu, wgmma: /HGMMA\.64x(256|192|128)x16\.F32\.BF16/ },
  },
  {
    kernel: /^matmul::hopper::swiglu_wgmma_kernel<\d, \(matmul::Fusion\)2,/,
    must: { "gate and up by ldmatrix": gatedByLdmatrix, exponentials: special },
  },
  { kernel: /^matmul::hopper::wgmma_kernel<0,/, must: { ...hopperMatmul, wgmma: /HGMMA\.64x256x16\.F32\.BF16/ } },
  { kernel: /^matmul::hopper::wgmma_kernel<1,/, must: { ...hopperMatmul, wgmma: /HGMMA\.64x192x16\.F32\.BF16/ } },
  { kernel: /^matmul::hopper::wgmma_kernel<2,/, must: { ...hopperMatmul, wgmma: /HGMMA\.64x128x16\.F32\.BF16/ } },
  {
    kernel: /^matmul::hopper::wgmma_kernel<\d, \(matmul::Form\)2,/,
    must: { "both operands MN-major": /tnspA\.tnspB/ },
  },
  { kernel: /^(attention|key_value|query)_kernel<\d+, \w+>$/, must: tensorCores },
  {
    kernel: /^hopper_attention_kernel<\d+, \w+>$/,
    must: { ...hopper, "exponentials under products": underProducts(64) },
  },
  {
    kernel: /^hopper_attention_backward_kernel<\d+, \w+, \w+>$/,
    must: { ...hopper, "bulk additions": /UBLKRED\.G\.S\.ADD\.F32/, "exponentials under products": underProducts(32) },
  },
  { kernel: /^hopper_attention_backward_kernel<\d+, \w+, InTurns>$/, must: { "waiting for turns": turns } },
  {
    kernel: /^hopper_attention_backward_kernel<\d+, \w+, InAnyOrder>$/,
    must: { "additions without waiting": { test: (code) => !turns.test(code) } },
  },
  { kernel: /^query_gradient_kernel<\d+>$/, must: { "16-byte loads": loads, "TMA stores": /UTMASTG\.4D/ } },
  { kernel: /^matmul::fma_kernel</, must: { "cp.async": /LDGSTS/, "fp32 products": /FFMA/ } },
  { kernel: /^(swiglu|swiglu_backward|rope)_kernel<(bf16, 8|float, 4)>/, must: wide },
  { kernel: /^(rmsnorm|rmsnorm_backward)_kernel</, must: wide },
  { kernel: /^rmsnorm_kernel<bf16, 32, 8>/, must: together(8) },
  { kernel: /^rmsnorm_backward_kernel<bf16, 256, 1, 2>/, must: together(2 + 6) }, // of the weight, and of two rows
  { kernel: /^rmsnorm_backward_kernel<bf16, 128, 1, 3>/, must: together(2 + 9) },
  { kernel: /^classifier_kernel<(bf16, 8|float, 4),/, must: { ...wide, ...together(4) } },
  { kernel: /^each_kernel<(Add|Copy|Move)Body<.*, (8|4)>$/, must: wide },
  { kernel: /^each_kernel<AddBody<bf16>, 8>$/, must: together(8) },
  { kernel: /^adamw_table_kernel/, must: { ...wide, ...together(8) } },
  { kernel: /^matmul::add_slices(_squares$|<(bf16, 8|float, 4)>)/, must: wide },
  { kernel: /^units_kernel<.*, true>$/, must: { "16-byte loads": loads } },
];
const never = { "local memory": /\s(LDL|STL)\b/ };

/** Kernels of an object file: name -> lines of its machine code. */
function disassemble(file, architecture) {
  const path = [dirname(options.cuobjdump), process.env.PATH].join(delimiter);
  const r = spawnSync(options.cuobjdump, ["-sass", "-arch", `sm_${architecture}`, file], {
    encoding: "utf8",
    maxBuffer: 1 << 30,
    env: { ...process.env, PATH: path },
  });
  if (r.error || r.status !== 0) throw new Error(`${file}: ${r.error?.message ?? r.stderr}`);
  const parts = r.stdout.split(/Function : (\S+)/).slice(1);
  const mangled = parts.filter((_, i) => i % 2 === 0);
  const names = spawnSync("c++filt", { input: mangled.join("\n"), encoding: "utf8" })
    .stdout.trim()
    .split("\n");
  return mangled.map((_, i) => ({ name: shortName(names[i]), code: parts[2 * i + 1] }));
}

const objects = join(options.build, "CMakeFiles/thalweg_cuda.dir/native/cuda/kernels");
const hopperObjects = objects.replace("thalweg_cuda.dir", "thalweg_hopper.dir"); // of sm_90a only
if (spawnSync(options.cuobjdump, ["--version"]).error) {
  console.log("instructions not checked: cuobjdump was not found (it comes with the CUDA toolkit; --cuobjdump PATH)");
  process.exit(0);
}
if (!existsSync(objects)) {
  console.error(`error: ${objects} does not exist: run \`npm run build:cuda\` first.`);
  process.exit(2);
}
const problems = [];
const used = new Set();
let kernels = 0;
const filesOf = (dir) =>
  existsSync(dir)
    ? readdirSync(dir)
        .filter((f) => f.endsWith(".cu.o"))
        .map((f) => join(dir, f))
    : [];
for (const architecture of options.architectures.split(",")) {
  for (const file of [...filesOf(objects), ...(architecture === "90a" ? filesOf(hopperObjects) : [])]) {
    for (const { name, code } of disassemble(file, architecture)) {
      kernels++;
      for (const [what, pattern] of Object.entries(never))
        if (pattern.test(code)) problems.push(`${name} on sm_${architecture} uses ${what}`);
      for (const line of productHazards(code))
        problems.push(`${name} on sm_${architecture} touches a product under way: ${line}`);
      for (const { limit, used } of releasedRegisters(code))
        if (used > limit)
          problems.push(`${name} on sm_${architecture} uses ${used} registers where setmaxnreg left ${limit}`);
      for (const rule of rules.filter((r) => r.kernel.test(name))) {
        used.add(rule);
        for (const [what, pattern] of Object.entries(rule.must))
          if (!pattern.test(code)) problems.push(`${name} on sm_${architecture} has no ${what}`);
      }
    }
  }
}
for (const rule of rules)
  if (!used.has(rule)) problems.push(`no kernel is named ${rule.kernel}: the rule checks nothing`);
for (const p of problems) console.error(p);
console.log(`${kernels} kernels disassembled: ${problems.length === 0 ? "the instructions that were meant" : "FAIL"}`);
process.exit(problems.length === 0 ? 0 : 1);
