/** What check-instructions finds in machine code that the compiler must not have made; the code here is made up. */
import { join } from "node:path";
import test from "ava";

const { loadsTogether, productHazards, releasedRegisters } = await import(
  join(import.meta.dirname, "../../tools/product_hazards.mjs") // plain JavaScript: it runs without a build
);

/** Instructions as cuobjdump prints them, 16 bytes apart. */
const listing = (...lines: string[]) =>
  lines
    .map((text, i) => `        /*${(16 * i).toString(16).padStart(4, "0")}*/                   ${text} ;`)
    .join("\n");

const scores = "HGMMA.64x16x16.F32.BF16 R8, gdesc[UR4], RZ, !UPT, gsb0";
const weighed = "HGMMA.64x16x16.F32.BF16 R24, R40, gdesc[UR8].tnspB, R24, gsb0";
const waitFor = (left: number) => `WARPGROUP.DEPBAR.LE gsb0, 0x${left}`;

test("sums may be touched after the wait for their group, and while later groups are under way", (t) => {
  t.deepEqual(
    productHazards(listing(scores, weighed, waitFor(1), "FMUL R8, R8, R2", waitFor(0), "FADD R24, R24, R9")),
    [],
  );
});

test("sums read or written before their wait are found, vectors of them too", (t) => {
  t.deepEqual(productHazards(listing(scores, "FMUL R2, R15, R3", waitFor(0))), ["FMUL R2, R15, R3"]);
  t.deepEqual(productHazards(listing(scores, weighed, waitFor(1), "@!P0 FADD R31, R2, R3")), ["FADD R31, R2, R3"]);
  t.deepEqual(productHazards(listing(scores, "STS.128 [R2], R5", waitFor(0))), ["STS.128 [R2], R5"]);
  t.deepEqual(productHazards(listing(scores, "STS.64 [R2], R5", waitFor(0))), []);
});

test("the operand of a product under way may be read and not written", (t) => {
  t.deepEqual(productHazards(listing(weighed, "F2FP.BF16.F32.PACK_AB R43, R2, R3")), [
    "F2FP.BF16.F32.PACK_AB R43, R2, R3",
  ]);
  t.deepEqual(productHazards(listing(weighed, "STG.E [R2.64], R43", "MOV R2, R43")), []);
});

test("registers used after they were given away are counted along every path, and no other path", (t) => {
  const code = listing(
    "@P0 BRA 0x60",
    "USETMAXREG.DEALLOC.CTAPOOL 0x18",
    "@P1 BRA 0x50",
    "IADD3 R22, R3, R4, RZ",
    "EXIT",
    "LDS.128 R20, [R2]",
    "USETMAXREG.TRY_ALLOC.CTAPOOL UP0, 0xf0",
    "FADD R200, R2, R3",
    "EXIT",
  );
  t.deepEqual(releasedRegisters(code), [{ limit: 24, used: 24 }]);
  t.deepEqual(releasedRegisters(code.replace("R22", "R24")), [{ limit: 24, used: 25 }]);
  t.deepEqual(releasedRegisters(listing("EXIT")), []);
});

test("loads are together until something asks for what one of them brings", (t) => {
  const load = (to: number) => `@!P2 LDG.E.EF.128 R${to}, desc[UR6][R2.64+0x10]`;
  const use = (of: number) => `PRMT R60, R${of}, 0x7732, RZ`;
  t.is(loadsTogether(listing(load(8), load(12), load(16), use(19))), 3);
  t.is(loadsTogether(listing(load(8), use(8), load(12), load(16), use(15), load(20))), 2);
  t.is(loadsTogether(listing(load(8), "STG.E.128 desc[UR6][R4.64], R8", load(8))), 1);
  t.is(loadsTogether(listing(load(8), "LDG.E.128 R20, desc[UR6][R10.64]")), 1, "an address that was loaded");
  t.is(loadsTogether(listing("LDG.E R8, desc[UR6][R2.64]", "EXIT")), 0);
});
