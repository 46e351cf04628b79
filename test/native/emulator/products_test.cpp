#include <bit>

#include "test/native/emulator/play.h"

using namespace thalweg;
using namespace thalweg::emulator;

namespace {

/** Shared memory full of ones in bf16, fenced for the async proxy; A [64, 16] at 0, B [16, 8] at 2048, no swizzle. */
const std::string kOnes =
    "mov.u32 %r1, dynamic;\nshl.b32 %r2, %t, 4;\nadd.s32 %r1, %r1, %r2;\nmov.u32 %r3, 0x3F803F80;\n"
    "st.shared.v4.u32 [%r1], {%r3, %r3, %r3, %r3};\nst.shared.v4.u32 [%r1+2048], {%r3, %r3, %r3, %r3};\n";
const std::string kReady = kOnes + "fence.proxy.async;\nbar.sync 0;\n";
const std::string kDescriptors = "mov.u64 %rd1, 0x1000080000;\nmov.u64 %rd2, 0x1000080080;\nsetp.ne.b32 %p1, 1, 0;\n";
const std::string kZeros = "mov.f32 %f0, 0f00000000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\nmov.f32 %f3, %f0;\n";
const std::string kProduct =
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd1, %rd2, %p1, 1, 1, 0, 0;\n";
const std::string kFence = "wgmma.fence.sync.aligned;\n", kCommit = "wgmma.commit_group.sync.aligned;\n";
const std::string kWait = "wgmma.wait_group.sync.aligned 0;\n";
const std::string kStore = "add.f32 %f4, %f0, %f3;\nst.global.f32 [%at], %f4;\n";

Try group_of_four(int schedule = -1) {
  Try t;
  if (schedule >= 0) t.schedule = Schedule::numbered(schedule, check::seed());
  t.shape.block = {128, 1, 1};
  t.shape.dynamic_shared_bytes = 8192;
  return t;
}

}  // namespace

TEST("a product of ones is its depth, added to what was there, on every schedule") {
  for (int number = 0; number < Schedule::kCount; number++) {
    Try t = group_of_four(number);
    t.body(kReady + kDescriptors + kZeros + kFence + kProduct + kProduct + kCommit + kWait + kStore);
    for (uint32_t n = 0; n < 128; n++) CHECK(std::bit_cast<float>(t.output[n]) == 64, n);
  }
}

TEST("A may come from registers, and may be negated") {
  Try t = group_of_four();
  t.body(kReady + kDescriptors + kZeros + "mov.u32 %r4, 0x40004000;\n" + kFence +
         "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, {%r4, %r4, %r4, %r4}, %rd2, 0, -1, "
         "1, 0;\n" +
         kCommit + kWait + kStore);
  CHECK(std::bit_cast<float>(t.output[100]) == -64);
}

TEST("what wgmma leaves undefined is a fault") {
  const auto fault = [](const std::string& text) {
    return group_of_four().fault(kReady + kDescriptors + kZeros + text);
  };
  CHECK_FAULT(fault(kProduct + kCommit + kWait + kStore), "after the last wgmma.fence");
  CHECK_FAULT(fault(kFence + "mov.f32 %f2, 0f00000000;\n" + kProduct + kCommit + kWait + kStore),
              "register of D (number 2)");
  CHECK_FAULT(fault(kFence + kProduct + kCommit + kStore + kWait), "touches a register of a wgmma that is under way");
  CHECK_FAULT(fault(kFence + kProduct + kWait + kStore + kCommit), "not committed");
  CHECK_FAULT(fault(kFence + kProduct + kCommit + "wgmma.wait_group.sync.aligned 1;\n" + kStore), "under way");
  CHECK_FAULT(fault(kFence + kProduct + kCommit), "exits while a wgmma is under way");
  CHECK_FAULT(fault("cvt.u64.u32 %rd3, %t;\nshr.u64 %rd3, %rd3, 5;\nadd.s64 %rd2, %rd2, %rd3;\n" + kFence + kProduct +
                    kCommit + kWait),
              "other operands in warp");
  CHECK_FAULT(fault("cvt.u64.u32 %rd3, %t;\nadd.s64 %rd2, %rd2, %rd3;\n" + kFence + kProduct + kCommit + kWait),
              "differs among the lanes");
}

TEST("an operand that ordinary stores wrote and no fence.proxy.async covers is a fault") {
  Try t = group_of_four();
  CHECK_FAULT(t.fault(kOnes + "bar.sync 0;\n" + kDescriptors + kZeros + kFence + kProduct + kCommit + kWait),
              "fence.proxy.async");
  t = group_of_four();
  t.body(kOnes + "bar.sync 0;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n" + kDescriptors + kZeros + kFence +
         kProduct + kCommit + kWait + kStore);
}

TEST("an operand that is overwritten before the wait is a fault") {
  Try t = group_of_four();
  CHECK_FAULT(
      t.fault(kReady + kDescriptors + kZeros + kFence + kProduct + kCommit + "st.shared.u32 [%r1], %r3;\n" + kWait),
      "still reads");
}

TEST("a wgmma that a warp of the group leaves out is waited for in vain") {
  Try t = group_of_four();
  CHECK_FAULT(t.fault(kReady + kDescriptors + kZeros + "setp.lt.u32 %p2, %t, 32;\n@%p2 bra.uni END;\n" + kFence +
                      kProduct + kCommit + kWait + "END:"),
              "wait for the other warps of the warpgroup");
}

TEST("a bulk load lands when its mbarrier says so, on every schedule") {
  const std::string begin =
      "mov.u32 %r1, dynamic;\nadd.s32 %r2, %r1, 512;\nsetp.ne.u32 %p1, %t, 0;\n@%p1 bra READY;\nmov.u32 %r3, 1;\n"
      "mbarrier.init.shared::cta.b64 [%r2], %r3;\nfence.mbarrier_init.release.cluster;\nmov.u32 %r4, 512;\n"
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], %r4;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%in], %r4, [%r2];\nREADY:\nbar.sync "
      "0;\n";
  const std::string wait =
      "mov.u32 %r5, 0;\n{\n.reg .pred done;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r2], %r5;\n@!done "
      "bra.uni WAIT;\n}\n";
  const std::string read =
      "shl.b32 %r6, %t, 2;\nadd.s32 %r6, %r6, %r1;\nld.shared.u32 %r7, [%r6];\nst.global.u32 [%at], %r7;\n";
  for (int number = 0; number < Schedule::kCount; number++) {
    Try t = group_of_four(number);
    for (uint32_t n = 0; n < 128; n++) t.input[n] = 3 * n + 1;
    t.body(begin + wait + read);
    for (uint32_t n = 0; n < 128; n++) CHECK(t.output[n] == 3 * n + 1, n);
  }
  Try late = group_of_four(2);
  CHECK(late.schedule.copies == When::Late);
  CHECK_FAULT(late.fault(begin + read), "pending");
  Try wrong = group_of_four();
  CHECK_FAULT(
      wrong.fault(
          begin + "mov.u32 %r5, 1;\n" + wait.substr(wait.find('\n') + 1) + wait +
          "mbarrier.arrive.shared::cta.b64 _, [%r2];\n"
          "mov.u32 %r5, 1;\n{\n.reg .pred done;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r2], %r5;\n"
          "@!done bra.uni WAIT;\n}\n"),
      "mbarrier");
  Try never = group_of_four();
  const std::string text = never.fault(
      "mov.u32 %r2, dynamic;\nsetp.ne.u32 %p1, %t, 0;\n@%p1 bra READY;\nmov.u32 %r3, 2;\n"
      "mbarrier.init.shared::cta.b64 [%r2], %r3;\nmbarrier.arrive.shared::cta.b64 _, [%r2];\nREADY:\nbar.sync 0;\n" +
      wait);
  CHECK_FAULT(text, "wait for the phase of parity 0 of the mbarrier at shared address 0");
  CHECK_FAULT(text, "1 of 2 arrivals");
}

TEST("blocks that spin for one whose copy acts late do not hold that copy back") {
  for (int number = 0; number < Schedule::kCount; number++) {
    Try t = group_of_four(number);
    t.shape.grid = {4, 1, 1};
    t.shape.block = {32, 1, 1};
    t.schedule.resident_blocks = 4;
    t.output.assign(256, 0);
    t.body(
        "mov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra SPIN;\nmov.u32 %r1, dynamic;\nadd.s32 %r2, %r1, "
        "512;\nsetp.ne.u32 %p1, %t, 0;\n@%p1 bra END;\nmov.u32 %r3, 1;\nmbarrier.init.shared::cta.b64 [%r2], %r3;\n"
        "fence.mbarrier_init.release.cluster;\nmov.u32 %r4, 512;\n"
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], %r4;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%in], %r4, [%r2];\nmov.u32 %r5, 0;\n"
        "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], %r5;\n@!%p2 bra WAIT;\n"
        "st.release.gpu.global.u32 [%out], %r3;\nbra END;\n"
        "SPIN:\nld.acquire.gpu.global.u32 %r6, [%out];\nsetp.eq.u32 %p3, %r6, 0;\n@%p3 bra SPIN;\nEND:");
    CHECK(t.output[0] == 1, number);
  }
}

TEST("cp.async lands at its group's wait, and zeros fill what was not read") {
  const std::string copy =
      "mov.u32 %r1, dynamic;\nshl.b32 %r2, %t, 4;\nadd.s32 %r1, %r1, %r2;\nmul.wide.u32 %rd1, %t, 16;\nadd.s64 %rd1, "
      "%rd1, %in;\n"
      "mov.u32 %r3, 4;\ncp.async.cg.shared.global [%r1], [%rd1], 16, %r3;\ncp.async.commit_group;\n";
  const std::string read = "ld.shared.v2.u32 {%r4, %r5}, [%r1];\nadd.s32 %r4, %r4, %r5;\nst.global.u32 [%at], %r4;\n";
  for (int number = 0; number < 3; number++) {
    Try t;
    t.schedule = Schedule::numbered(number, check::seed());
    t.shape.dynamic_shared_bytes = 512;
    for (uint32_t n = 0; n < 256; n++) t.input[n] = n;
    t.body(copy + "cp.async.wait_group 0;\n" + read);
    for (uint32_t n = 0; n < 32; n++) CHECK(t.output[n] == 4 * n, n);
    if (t.schedule.copies == When::Late) CHECK_FAULT(t.fault(copy + read), "pending");
  }
}

TEST("mma.sync multiplies fragments, ldmatrix and stmatrix move them") {
  Try t;
  t.shape.dynamic_shared_bytes = 1024;
  t.body(
      "mov.u32 %r1, dynamic;\nshl.b32 %r2, %t, 4;\nadd.s32 %r1, %r1, %r2;\nmov.u32 %r3, 0x3F803F80;\n"
      "st.shared.v4.u32 [%r1], {%r3, %r3, %r3, %r3};\nbar.warp.sync -1;\n"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r1];\nmov.f32 %f0, 0f3F800000;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r4, %r5, %r6, %r7}, {%r4, %r4}, "
      "{%f0, %f0, %f0, %f0};\n"
      "add.f32 %f4, %f0, %f3;\nst.global.f32 [%at], %f4;\nmov.b32 %r8, %t;\n"
      "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r1], {%r8};\nld.shared.u32 %r9, [%r1];\nst.global.u32 "
      "[%at+128], %r9;");
  CHECK(std::bit_cast<float>(t.output[9]) == 34);
  // Transposed, lane 4 i + c holds rows 2 c and 2 c + 1 of column i: row 2 begins with lanes 1 and 5, and row 3 with
  // zeros.
  CHECK(t.output[34] == (5u << 16 | 1) && t.output[35] == 0, t.output[34]);
}

TEST_MAIN()
