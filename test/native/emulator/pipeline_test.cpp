#include "test/native/emulator/copies_support.h"
#include "test/native/emulator/kernel_support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

/** Three boxes [8, 64] of fp32 pass through one buffer: TMA in, every thread doubles its 8 numbers, TMA out. */
const char* const kThrough = R"(
.entry through(.param .align 128 .b8 from[128], .param .align 128 .b8 to[128]) {
.reg .pred %p<4>; .reg .b32 %r<12>; .reg .b64 %rd<4>; .reg .f32 %f<8>;
mov.b64 %rd0, from; cvta.param.u64 %rd0, %rd0;
mov.b64 %rd1, to; cvta.param.u64 %rd1, %rd1;
mov.u32 %r0, %tid.x; mov.u32 %r1, shared; add.s32 %r2, %r1, 4096;
mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0;
setp.ne.s32 %p0, %r0, 0;
mov.u32 %r7, 1;
@%p0 bra READY;
mbarrier.init.shared::cta.b64 [%r2], %r7;
fence.mbarrier_init.release.cluster;
READY:
bar.sync 0;
LOOP:
@%p0 bra LOADED;
mov.u32 %r8, 2048;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], %r8;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0, {%r5, %r3}], [%r2];
LOADED:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], %r4;
@!%p1 bra LOADED;
xor.b32 %r4, %r4, 1;
shl.b32 %r9, %r0, 5; add.s32 %r9, %r9, %r1;
ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%r9];
ld.shared.v4.f32 {%f4, %f5, %f6, %f7}, [%r9+16];
add.f32 %f0, %f0, %f0; add.f32 %f1, %f1, %f1; add.f32 %f2, %f2, %f2; add.f32 %f3, %f3, %f3;
add.f32 %f4, %f4, %f4; add.f32 %f5, %f5, %f5; add.f32 %f6, %f6, %f6; add.f32 %f7, %f7, %f7;
st.shared.v4.f32 [%r9], {%f0, %f1, %f2, %f3};
st.shared.v4.f32 [%r9+16], {%f4, %f5, %f6, %f7};
fence.proxy.async.shared::cta;
bar.sync 0;
@%p0 bra STORED;
cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r5, %r3}], [%r1];
cp.async.bulk.commit_group;
cp.async.bulk.wait_group.read 0;
STORED:
add.s32 %r3, %r3, 8;
setp.lt.s32 %p2, %r3, 24;
@%p2 bra LOOP;
ret;
})";

std::string play_through(const Kernel& kernel, const Schedule& schedule) {
  constexpr size_t kCount = 64 * 24;
  struct alignas(256) Tensor {
    float at[kCount];
  };
  const auto from = std::make_unique<Tensor>(), to = std::make_unique<Tensor>();
  for (size_t i = 0; i < kCount; i++) from->at[i] = static_cast<float>(i), to->at[i] = -1;
  GlobalMemory memory;
  memory.add(from.get(), sizeof(Tensor), "from");
  memory.add(to.get(), sizeof(Tensor), "to");
  Map in(kFloat32, from->at, {64, 24}, {256}, {64, 8}, 0), out(kFloat32, to->at, {64, 24}, {256}, {64, 8}, 0);
  void* arguments[] = {in.bytes, out.bytes};
  play(kernel, {{1, 1, 1}, {64, 1, 1}, {1, 1, 1}, 4096 + 8}, arguments, memory, schedule);
  for (size_t i = 0; i < kCount; i++)
    if (to->at[i] != 2 * from->at[i]) return "element " + std::to_string(i) + " is " + std::to_string(to->at[i]);
  return "";
}

/** Each thread sums three runs of 16 bytes that cp.async fetches a turn ahead into two stages. */
const char* const kRing = R"(
.entry ring(.param .u64 from, .param .u64 to) {
.reg .pred %p<4>; .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .f32 %f<8>;
ld.param.u64 %rd0, [from]; ld.param.u64 %rd1, [to];
mov.u32 %r0, %tid.x; mov.u32 %r1, shared;
mul.wide.u32 %rd2, %r0, 16; add.s64 %rd0, %rd0, %rd2;
mul.wide.u32 %rd3, %r0, 4; add.s64 %rd1, %rd1, %rd3;
shl.b32 %r2, %r0, 4; add.s32 %r2, %r2, %r1;
xor.b32 %r3, %r0, 33; shl.b32 %r3, %r3, 4; add.s32 %r3, %r3, %r1;
mov.f32 %f7, 0f00000000; mov.u32 %r4, 0;
cp.async.cg.shared.global [%r2], [%rd0], 16;
cp.async.commit_group;
LOOP:
add.s64 %rd0, %rd0, 1024;
xor.b32 %r2, %r2, 1024;
setp.eq.s32 %p0, %r4, 2;
@%p0 bra LAST;
cp.async.cg.shared.global [%r2], [%rd0], 16;
LAST:
cp.async.commit_group;
cp.async.wait_group 1;
bar.sync 0; //arrived
ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%r3];
add.f32 %f7, %f7, %f0; add.f32 %f7, %f7, %f1; add.f32 %f7, %f7, %f2; add.f32 %f7, %f7, %f3;
xor.b32 %r3, %r3, 1024;
bar.sync 0; //free
add.s32 %r4, %r4, 1;
setp.lt.s32 %p1, %r4, 3;
@%p1 bra LOOP;
st.global.f32 [%rd1], %f7;
ret;
})";

std::string play_ring(const Kernel& kernel, const Schedule& schedule) {
  alignas(16) float from[3 * 256], to[64];
  for (int i = 0; i < 3 * 256; i++) from[i] = static_cast<float>(i % 97);
  GlobalMemory memory;
  memory.add(from, sizeof from, "from");
  memory.add(to, sizeof to, "to");
  uint64_t pointers[] = {reinterpret_cast<uint64_t>(from), reinterpret_cast<uint64_t>(to)};
  void* arguments[] = {&pointers[0], &pointers[1]};
  play(kernel, {{1, 1, 1}, {64, 1, 1}, {1, 1, 1}, 2048}, arguments, memory, schedule);
  for (int t = 0; t < 64; t++) {
    float want = 0;
    for (int turn = 0; turn < 3; turn++)
      for (int i = 0; i < 4; i++) want += from[256 * turn + 4 * (t ^ 33) + i];
    if (to[t] != want) return "thread " + std::to_string(t) + ": " + std::to_string(to[t]);
  }
  return "";
}

}  // namespace

TEST("boxes that pass through one buffer come out right under every schedule") {
  must_be_right(kThrough, play_through);
}

TEST("each step that a pipeline of boxes leaves out or does wrongly is noticed") {
  const auto caught = [](const char* from, const char* to, const char* part) {
    must_be_caught(kThrough, from, to, part, play_through);
  };
  caught("fence.proxy.async.shared::cta;", "", "no fence.proxy.async covers");
  caught("fence.proxy.async.shared::cta;\nbar.sync 0;", "fence.proxy.async.shared::cta;", "");
  caught("cp.async.bulk.wait_group.read 0;", "", "still reads");
  caught("cp.async.bulk.wait_group.read 0;", "cp.async.bulk.wait_group.read 1;", "still reads");
  caught("cp.async.bulk.commit_group;", "", "still reads");
  caught("@!%p1 bra LOADED;", "", "still writes");
  caught("xor.b32 %r4, %r4, 1;", "", "");
  caught("mbarrier.init.shared::cta.b64 [%r2], %r7;", "", "no mbarrier");
  caught("READY:\nbar.sync 0;", "READY:", "no mbarrier");
  caught("mov.u32 %r7, 1;", "mov.u32 %r7, 2;", "");
  caught("mov.u32 %r8, 2048;", "mov.u32 %r8, 2064;", "");
  caught("mov.u32 %r8, 2048;", "mov.u32 %r8, 2032;", "more bytes came");
  caught("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], %r8;", "", "");
  caught("LOOP:\n@%p0 bra LOADED;", "LOOP:", "");  // both warps' threads load
  caught("[%r1], [%rd0, {%r5, %r3}], [%r2];", "[%r1+64], [%rd0, {%r5, %r3}], [%r2];", "multiple of 128");
  caught("[%rd1, {%r5, %r3}]", "[%rd1, {%r3, %r5}]", "");
  caught("add.s32 %r2, %r1, 4096;", "add.s32 %r2, %r1, 2040;", "live mbarrier");  // the barrier lies in the box
  caught("st.shared.v4.f32 [%r9], {", "st.shared.v4.f32 [%r9+8], {", "");         // misaligned
  caught("mov.b64 %rd1, to; cvta.param.u64 %rd1, %rd1;", "mov.u64 %rd1, 64;", "");
}

TEST("a ring of cp.async comes out right under every schedule") { must_be_right(kRing, play_ring); }

TEST("each step that a ring of cp.async leaves out is noticed") {
  const auto caught = [](const char* from, const char* to, const char* part) {
    must_be_caught(kRing, from, to, part, play_ring);
  };
  caught("cp.async.wait_group 1;", "", "still writes");
  caught("cp.async.wait_group 1;", "cp.async.wait_group 2;", "still writes");
  caught("LAST:\ncp.async.commit_group;", "LAST:", "");
  caught("bar.sync 0; //arrived", "", "");
  caught("bar.sync 0; //free", "", "");
  caught("@%p0 bra LAST;", "", "");  // reads past the end, and nobody waits for it
  caught("[%r2], [%rd0], 16;", "[%r2+8], [%rd0], 16;", "multiple of 16");
}

TEST_MAIN()
