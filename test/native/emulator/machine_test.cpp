#include <bit>
#include <random>

#include "test/native/emulator/play.h"

using namespace thalweg;
using namespace thalweg::emulator;

TEST("lanes that part at a branch come together behind it") {
  Try t;
  t.body(
      "and.b32 %r1, %t, 1;\nsetp.eq.s32 %p1, %r1, 0;\nmov.u32 %r2, 7;\n@%p1 bra EVEN;\nadd.s32 %r2, %r2, 100;\nbra.uni "
      "JOIN;\n"
      "EVEN:\nadd.s32 %r2, %r2, 1000;\nJOIN:\n"
      "activemask.b32 %r3;\nst.global.u32 [%at], %r2;\nst.global.u32 [%at+128], %r3;");
  for (uint32_t l = 0; l < 32; l++) {
    CHECK(t.output[l] == (l % 2 ? 107u : 1007u), l);
    CHECK(t.output[32 + l] == 0xFFFFFFFF, l);
  }
}

TEST("each lane leaves a loop after its own rounds") {
  Try t;
  t.body(
      "mov.u32 %r1, 0;\nmov.u32 %r2, 0;\nLOOP:\nadd.s32 %r2, %r2, %r1;\nadd.s32 %r1, %r1, 1;\nsetp.le.u32 %p1, %r1, "
      "%t;\n"
      "@%p1 bra LOOP;\nst.global.u32 [%at], %r2;");
  for (uint32_t l = 0; l < 32; l++) CHECK(t.output[l] == l * (l + 1) / 2, l);
}

TEST("an instruction under a predicate leaves the other lanes' registers and memory alone") {
  Try t;
  t.body(
      "setp.lt.u32 %p1, %t, 5;\nmov.u32 %r1, 1;\n@%p1 mov.u32 %r1, 2;\n@!%p1 add.s32 %r1, %r1, 9;\n"
      "@%p1 st.global.u32 [%at], %r1;\nsetp.eq.u32 %p2, %t, 31;\n@%p2 st.global.u32 [%at], %r1;");
  for (uint32_t l = 0; l < 32; l++) CHECK(t.output[l] == (l < 5 ? 2u : l == 31 ? 10u : 0xDEADBEEF), l);
}

TEST("a lane that spins for its neighbour does not keep it from going on") {
  Try t;
  t.output.assign(256, 0);
  t.body(
      "setp.ne.u32 %p1, %t, 0;\n@%p1 bra OTHERS;\nSPIN:\nld.acquire.gpu.global.u32 %r1, [%out+128];\nsetp.eq.u32 %p2, "
      "%r1, 0;\n"
      "@%p2 bra SPIN;\nst.global.u32 [%out], %r1;\nbra END;\nOTHERS:\nsetp.eq.u32 %p3, %t, 7;\nmov.u32 %r2, 5;\n"
      "@%p3 st.release.gpu.global.u32 [%out+128], %r2;\nEND:");
  CHECK(t.output[0] == 5);
}

TEST("bra.uni of lanes that do not agree is a fault") {
  Try t;
  CHECK_FAULT(t.fault("setp.lt.u32 %p1, %t, 5;\n@%p1 bra.uni L;\nL:"), "bra.uni");
}

TEST("shuffles clamp at their segments and say whether they did") {
  Try t;
  t.body(
      "mul.lo.u32 %r1, %t, 3;\nshfl.sync.up.b32 %r2|%p1, %r1, 2, 0, -1;\nselp.u32 %r3, 1000, 0, %p1;\nadd.s32 %r2, "
      "%r2, %r3;\n"
      "st.global.u32 [%at], %r2;\nshfl.sync.down.b32 %r2, %r1, 3, 0x1807, -1;\nst.global.u32 [%at+128], %r2;\n"
      "shfl.sync.bfly.b32 %r1, %r1, 1, 31, -1;\nst.global.u32 [%at+256], %r1;\nshfl.sync.idx.b32 %r2, %t, 33, 0x101F, "
      "-1;\n"
      "st.global.u32 [%at+384], %r2;");
  for (uint32_t l = 0; l < 32; l++) {
    CHECK(t.output[l] == (l < 2 ? 3 * l : 3 * (l - 2) + 1000), l);
    CHECK(t.output[32 + l] == (l % 8 + 3 <= 7 ? 3 * (l + 3) : 3 * l), l);  // segments of 8
    CHECK(t.output[64 + l] == 3 * (l ^ 1), l);
    CHECK(t.output[96 + l] == (l / 16) * 16 + 1, l);  // segments of 16
  }
}

TEST("a shuffle waits for the lanes of its mask, and what no member gives is poison") {
  Try t;
  t.body(
      "setp.lt.u32 %p1, %t, 16;\n@%p1 bra LOW;\nmov.u32 %r1, 1;\nbra JOIN;\nLOW:\nmov.u32 %r1, 2;\nJOIN:\n"
      "shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1;\nst.global.u32 [%at], %r2;\n@%p1 bra HALF;\nbra END;\nHALF:\n"
      "shfl.sync.bfly.b32 %r2, %r1, 16, 31, 0xFFFF;\nst.global.u32 [%at+128], %r2;\nEND:");
  for (uint32_t l = 0; l < 32; l++) CHECK(t.output[l] == (l < 16 ? 1u : 2u), l);
  for (uint32_t l = 0; l < 16; l++) CHECK(t.output[32 + l] == 0xFFFFFFFF, l);
}

TEST("votes and reductions") {
  Try t;
  t.body(
      "setp.gt.u32 %p1, %t, 20;\nvote.sync.ballot.b32 %r1, %p1, -1;\nst.global.u32 [%at], %r1;\nvote.sync.any.pred "
      "%p2, !%p1, -1;\n"
      "selp.u32 %r2, 1, 0, %p2;\nvote.sync.all.pred %p2, %p1, -1;\nselp.u32 %r3, 2, 0, %p2;\nor.b32 %r2, %r2, %r3;\n"
      "st.global.u32 [%at+128], %r2;\nredux.sync.add.s32 %r4, %t, -1;\nst.global.u32 [%at+256], %r4;\n"
      "elect.sync %r5|%p3, -1;\nselp.u32 %r5, 1, 0, %p3;\nst.global.u32 [%at+384], %r5;");
  CHECK(t.output[3] == 0xFFE00000 && t.output[35] == 1 && t.output[70] == 496);
  CHECK(t.output[96] == 1 && t.output[97] == 0);
}

TEST("vectors go to and come from memory in order, and sinks swallow") {
  Try t;
  for (uint32_t n = 0; n < 256; n++) t.input[n] = n * 7;
  t.body(
      "shl.b32 %r1, %t, 4;\ncvt.u64.u32 %rd1, %r1;\nadd.s64 %rd2, %in, %rd1;\nadd.s64 %rd3, %out, %rd1;\n"
      "ld.global.v4.u32 {%r2, %r3, _, %r4}, [%rd2];\nmov.u32 %r5, 1;\nst.global.wb.v4.u32 [%rd3], {%r4, %r3, %r2, "
      "%r5};\n"
      "ld.global.v2.f32 {%f1, %f2}, [%rd2+8];\nst.global.v2.f32 [%rd3+512], {%f2, %f1};");
  for (uint32_t l = 0; l < 32; l++) {
    CHECK(t.output[4 * l] == 7 * (4 * l + 3) && t.output[4 * l + 1] == 7 * (4 * l + 1) &&
              t.output[4 * l + 2] == 7 * 4 * l,
          l);
    CHECK(t.output[4 * l + 3] == 1 && t.output[128 + 4 * l] == 7 * (4 * l + 3) &&
              t.output[129 + 4 * l] == 7 * (4 * l + 2),
          l);
  }
}

TEST("narrow loads extend by their type, narrow stores cut") {
  Try t;
  t.input[0] = 0x8081FF7F;
  t.body(
      "ld.global.s8 %r1, [%in+1];\nst.global.u32 [%out], %r1;\nld.global.u16 %r1, [%in+2];\nst.global.u32 [%out+4], "
      "%r1;\n"
      "ld.global.s16 %h1, [%in+2];\ncvt.s32.s16 %r1, %h1;\nst.global.u32 [%out+8], %r1;\nld.global.s32 %rd1, [%in];\n"
      "shr.u64 %rd1, %rd1, 32;\nst.global.u32 [%out+12], %rd1;\nmov.u32 %r2, 0x12345678;\nst.global.u8 [%out+16], "
      "%r2;");
  CHECK(t.output[0] == 0xFFFFFFFF && t.output[1] == 0x8081 && t.output[2] == 0xFFFF8081 && t.output[3] == 0xFFFFFFFF);
  CHECK(t.output[4] == 0xDEADBE78);
}

TEST("an access outside of every allocation names the nearest") {
  Try t;
  CHECK_FAULT(t.fault("st.global.u32 [%out+1024], %t;"), "0 bytes behind the end of the output");
  CHECK_FAULT(t.fault("ld.global.u32 %r1, [%in+-4];"), "reads 4 bytes at global address");
  CHECK_FAULT(t.fault("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+1016];"), "not aligned");
}

TEST("a misaligned access is a fault") {
  Try t;
  CHECK_FAULT(t.fault("ld.global.u32 %r1, [%in+2];"), "not aligned");
  CHECK_FAULT(t.fault("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+8];"), "not aligned");
  t.shape.dynamic_shared_bytes = 64;
  CHECK_FAULT(t.fault("mov.u32 %r1, dynamic;\nst.shared.v2.u32 [%r1+4], {%r1, %r1};"), "not aligned");
}

TEST("registers and shared memory that nobody wrote are NaN, and an address of them is a fault") {
  Try t;
  t.shape.dynamic_shared_bytes = 64;
  t.body(
      "st.global.u32 [%at], %r9;\nmov.u32 %r1, dynamic;\nld.shared.f32 %f1, [%r1+4];\nst.global.f32 [%at+128], %f1;");
  CHECK(t.output[5] == 0xFFFFFFFF && t.output[37] == 0xFFFFFFFF);
  CHECK_FAULT(t.fault("ld.global.u8 %r1, [%rd9];"), "undefined register");
  CHECK_FAULT(t.fault("ld.shared.u8 %r1, [%r9];"), "undefined register");
  CHECK_FAULT(t.fault("ld.shared.u32 %r1, [64];"), "the block has 64 bytes");
}

TEST("a branch by a predicate that nobody wrote is a fault, one by a predicate of these lanes is not") {
  Try t;
  CHECK_FAULT(t.fault("@%p9 bra END;\nEND:"), "a predicate that they have not written");
  CHECK_FAULT(t.fault("@!%p9 bra END;\nEND:"), "a predicate that they have not written");
  t.body("setp.lt.u32 %p1, %t, 9;\n@%p1 setp.lt.u32 %p2, %t, 4;\n@!%p1 bra END;\n@%p2 bra END;\nEND:");
}

TEST("a fault tells kernel, line, block, warp and schedule") {
  Try t;
  t.shape.block = {64, 1, 1};
  t.shape.grid = {2, 3, 1};
  const std::string text = t.fault(
      "mov.u32 %r1, %ctaid.y;\nsetp.lt.u32 %p1, %r1, 2;\n@%p1 bra END;\nsetp.lt.u32 %p2, %t, 32;\n@%p2 bra END;\n"
      "trap;\nEND:");
  for (const char* part : {"KERNEL_FAULT: k, line 26 (trap)", ", 2, 0), warp 1: trap", "seed "})
    CHECK_FAULT(text, part);
}

TEST("barriers hold warps until all, or as many as told, have come") {
  for (int number = 0; number < Schedule::kCount; number++) {
    Try t;
    t.schedule = Schedule::numbered(number, check::seed());
    t.shape.block = {128, 1, 1};
    t.shape.dynamic_shared_bytes = 1024;
    // Each thread reads what a thread of another warp wrote; then warp 0 hands on to warp 1 by barrier 3 of 64 threads.
    t.body(
        "mov.u32 %r1, dynamic;\nshl.b32 %r2, %t, 2;\nadd.s32 %r3, %r1, %r2;\nst.shared.u32 [%r3], %t;\nbar.sync 0;\n"
        "xor.b32 %r4, %r2, 128;\nadd.s32 %r4, %r4, %r1;\nld.shared.u32 %r5, [%r4];\nst.global.u32 [%at], %r5;\n"
        "shr.u32 %r6, %t, 5;\nsetp.gt.u32 %p1, %r6, 1;\n@%p1 bra END;\nsetp.eq.u32 %p2, %r6, 1;\n@%p2 bra TAKES;\n"
        "add.s32 %r7, %t, 500;\nst.shared.u32 [%r3+512], %r7;\nbar.arrive 3, 64;\nbra END;\nTAKES:\nbar.sync 3, 64;\n"
        "ld.shared.u32 %r7, [%r3+384];\nst.global.u32 [%at+384], %r7;\nEND:");
    for (uint32_t n = 0; n < 128; n++) CHECK(t.output[n] == (n ^ 32), n);
    for (uint32_t n = 0; n < 32; n++) CHECK(t.output[128 + n] == 500 + n, n);
  }
}

TEST("a barrier that not all come to ends in a report of who waits") {
  Try t;
  t.shape.block = {96, 1, 1};
  const std::string text =
      t.fault("setp.lt.u32 %p1, %t, 32;\n@%p1 bra.uni TWO;\nbar.sync 1;\nbra END;\nTWO:\nbar.sync 2;\nEND:");
  for (const char* part : {"no progress", "warps 0: wait for barrier 2, to which 32 of 96 threads have come",
                           "warps 1, 2: wait for barrier 1, to which 64 of 96"}) {
    CHECK_FAULT(text, part);
  }
}

TEST("lanes that never come to a collective are told of") {
  Try t;
  CHECK_FAULT(t.fault("setp.lt.u32 %p1, %t, 9;\n@%p1 bra SPIN;\nshfl.sync.bfly.b32 %r1, %t, 1, 31, -1;\nbra END;\n"
                      "SPIN:\nbar.warp.sync 0x1FF;\nld.volatile.global.u32 %r2, [%in];\nsetp.eq.u32 %p2, %r2, 0;\n@%p2 "
                      "bra SPIN;\nEND:"),
              "wait for lanes 0x1ff to come there");
  CHECK_FAULT(t.fault("setp.lt.u32 %p1, %t, 9;\n@%p1 shfl.sync.bfly.b32 %r1, %t, 1, 31, -1;"),
              "a predicate leaves out lanes");
}

TEST("a loop that waits for what never comes is a fault") {
  Try t;
  CHECK_FAULT(t.fault("SPIN:\nld.acquire.gpu.global.u32 %r1, [%in];\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra SPIN;"),
              "no progress");
  CHECK_FAULT(t.fault("SPIN:\nadd.s32 %r1, %r1, 1;\nbra SPIN;"), "no progress");
}

TEST("barriers with other counts, twice or out of range are faults") {
  Try t;
  t.shape.block = {96, 1, 1};
  CHECK_FAULT(
      t.fault("setp.lt.u32 %p1, %t, 32;\n@%p1 bra.uni A;\nbar.arrive 1, 96;\nbra END;\nA:\nbar.arrive 1, 64;\nEND:"),
      "others came to it for");
  CHECK_FAULT(t.fault("setp.lt.u32 %p1, %t, 64;\n@%p1 bra.uni END;\nbar.arrive 1, 64;\nbar.arrive 1, 64;\nEND:"),
              "again before");
  CHECK_FAULT(t.fault("bar.sync 16;"), "a block that has 16");
  CHECK_FAULT(t.fault("bar.sync 1, 40;"), "not whole warps");
}

TEST("blocks that wait for earlier ones go on together") {
  for (int number = 0; number < Schedule::kCount; number += 6) {
    Try t;
    t.schedule = Schedule::numbered(number, check::seed());
    t.shape.grid = {37, 1, 1};
    t.output.assign(256, 0);
    t.body(
        "mov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %t, 0;\n@%p1 bra END;\nWAIT:\nld.acquire.gpu.global.u32 %r2, "
        "[%out];\n"
        "setp.ne.u32 %p2, %r2, %r1;\n@%p2 bra WAIT;\nmul.wide.u32 %rd1, %r1, 4;\nadd.s64 %rd1, %rd1, %out;\n"
        "st.global.u32 [%rd1+4], %r1;\nadd.s32 %r2, %r2, 1;\nst.release.gpu.global.u32 [%out], %r2;\nEND:");
    for (uint32_t n = 0; n < 37; n++) CHECK(t.output[1 + n] == n, n);
    CHECK(t.output[0] == 37 && t.played.blocks == 37);
  }
}

TEST("a cluster's blocks see each other's shared memory and meet at its barrier") {
  Try t;
  t.shape.grid = {8, 1, 1};
  t.shape.cluster = {4, 1, 1};
  t.shape.dynamic_shared_bytes = 128;
  t.body(
      "mov.u32 %r1, dynamic;\nshl.b32 %r2, %t, 2;\nadd.s32 %r1, %r1, %r2;\nmov.u32 %r3, %cluster_ctarank;\nmov.u32 "
      "%r4, %ctaid.x;\n"
      "mad.lo.u32 %r5, %r4, 100, %t;\nst.shared.u32 [%r1], %r5;\nbarrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\nadd.s32 %r6, %r3, 1;\nand.b32 %r6, %r6, 3;\nmapa.shared::cluster.u32 "
      "%r7, %r1, %r6;\n"
      "ld.shared::cluster.u32 %r8, [%r7];\ncvt.u64.u32 %rd1, %r1;\ncvta.shared.u64 %rd1, %rd1;\nmapa.u64 %rd2, %rd1, "
      "%r6;\n"
      "ld.u32 %r9, [%rd2];\nsub.s32 %r9, %r9, %r8;\nadd.s32 %r8, %r8, %r9;\nmul.wide.u32 %rd3, %r4, 128;\nadd.s64 "
      "%rd3, %rd3, %at;\n"
      "st.global.u32 [%rd3], %r8;\nbarrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;");
  for (uint32_t b = 0; b < 8; b++) {
    for (uint32_t l = 0; l < 32; l++) CHECK(t.output[32 * b + l] == (b / 4 * 4 + (b + 1) % 4) * 100 + l, b, " ", l);
  }
  CHECK_FAULT(t.fault("mov.u32 %r1, 0;\nmapa.shared::cluster.u32 %r2, %r1, 4;"), "block 4 of a cluster of 4");
  CHECK_FAULT(t.fault("barrier.cluster.wait.acquire.aligned;"), "without having come");
}

TEST("atomics act lane by lane") {
  Try t;
  t.shape.block = {96, 1, 1};
  t.output.assign(256, 0);
  t.body(
      "atom.relaxed.gpu.global.add.s32 %r1, [%out], 2;\nred.global.max.u32 [%out+4], %t;\nmov.f32 %f1, 0f3F800000;\n"
      "atom.global.add.f32 %f2, [%out+8], %f1;\natom.global.cas.b32 %r2, [%out+12], 0, 7;");
  CHECK(t.output[0] == 192 && t.output[1] == 95 && t.output[2] == std::bit_cast<uint32_t>(96.0f) && t.output[3] == 7);
}

TEST("warps that took registers wait until others have given theirs") {
  Try t;
  t.shape.block = {256, 1, 1};
  const std::string directives = ".maxntid 256, 1, 1\n.minnctapersm 1\n";
  // 256 threads start with 248 registers; 65536 / 512 = 128 at two blocks a multiprocessor.
  t.body(
      "setp.lt.u32 %p1, %t, 128;\n@%p1 bra.uni GIVES;\nsetmaxnreg.inc.sync.aligned.u32 200;\nbra END;\nGIVES:\n"
      "setmaxnreg.dec.sync.aligned.u32 48;\nEND:\nst.global.u32 [%at], %t;",
      ".maxntid 256, 1, 1\n.minnctapersm 2\n");
  CHECK(t.output[255] == 255);
  CHECK_FAULT(
      t.fault("setp.lt.u32 %p1, %t, 128;\n@%p1 bra.uni GIVES;\nsetmaxnreg.inc.sync.aligned.u32 208;\nbra END;\nGIVES:\n"
              "setmaxnreg.dec.sync.aligned.u32 56;\nEND:",
              ".maxntid 256, 1, 1\n.minnctapersm 2\n"),
      "registers; the block's pool has");
  CHECK_FAULT(t.fault("setmaxnreg.inc.sync.aligned.u32 32;", directives), "but the thread has 248");
}

TEST("an unknown instruction, part, name or width is an error with its line") {
  Try t;
  CHECK_FAULT(t.fault("\nfrob.b32 %r1, %r2;"), "BAD_PTX: line 22 of k: frob.b32: this instruction is not known");
  CHECK_FAULT(t.fault("add.rz.f32 %f1, %f2, %f3;"), "'.rz' is not known here");
  CHECK_FAULT(t.fault("add.s32 %r1, %r2, %r99;"), "'%r99' is not declared");
  CHECK_FAULT(t.fault("add.s32 %r1, %rd2, 1;"), "'%rd2' has 64 bits, not 32");
  CHECK_FAULT(t.fault("bra NOWHERE;"), "no label NOWHERE");
  CHECK_FAULT(t.fault("mul.s32 %r1, %r2, %r3;"), ".lo, .hi or .wide");
}

TEST("statements may share a line, comments stand anywhere, names in braces are their own") {
  Try t;
  t.body(
      "mov.u32 %r1, 4; /* two\nlines */ { .reg .b32 x; .reg .pred done; AGAIN: add.s32 x, %r1, 1; setp.eq.u32 done, x, "
      "5; @!done bra.uni AGAIN; mov.u32 %r2, x; }\n"
      "{ .reg .b32 x; AGAIN: mov.u32 x, 9; add.s32 %r2, %r2, x; // end\n}\nst.global.u32 [%at], %r2;");
  CHECK(t.output[9] == 14);
}

TEST("static shared variables lie first and dynamic memory behind them") {
  Try t;
  t.shape.dynamic_shared_bytes = 16;
  t.body(
      ".shared .align 4 .b8 fixed[20];\nmov.u32 %r1, fixed;\nst.global.u32 [%out], %r1;\nmov.u32 %r2, dynamic;\n"
      "st.global.u32 [%out+4], %r2;\nmov.u64 %rd1, fixed;\nst.shared.u32 [fixed+16], %r2;\nld.shared.u32 %r3, "
      "[%rd1+16];\n"
      "st.global.u32 [%out+8], %r3;");
  CHECK(t.output[0] == 0 && t.output[1] == 1024 && t.output[2] == 1024);
}

TEST("a launch must fit its kernel") {
  Try t;
  t.shape.block = {64, 1, 1};
  CHECK_FAULT(t.fault("", ".maxntid 32, 1, 1\n"), "a block of 64 threads; the kernel allows 1 to 32");
  t.shape.grid = {3, 1, 1};
  t.shape.cluster = {2, 1, 1};
  CHECK_FAULT(t.fault(""), "in clusters of 2");
  t.shape.cluster = {1, 1, 1};
  t.shape.dynamic_shared_bytes = 300000;
  CHECK_FAULT(t.fault(""), "300000 bytes of shared memory");
}

TEST_MAIN()
