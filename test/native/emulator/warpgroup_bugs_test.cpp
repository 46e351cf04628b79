#include "test/native/emulator/copies_support.h"
#include "test/native/emulator/kernel_support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

/**
 * D [64, 8] = A [64, 32] B [8, 32] transposed, in two products of k = 16 by one warpgroup. A comes by TMA under the
 * 64-byte swizzle, B by ordinary stores of the first 32 threads, each 16 bytes. D goes to global memory by its
 * fragments.
 */
const char* const kProduct = R"(
.entry product(.param .align 128 .b8 a[128], .param .u64 b, .param .u64 d) {
.reg .pred %p<4>; .reg .b32 %r<20>; .reg .b64 %rd<12>; .reg .f32 %f<5>;
mov.b64 %rd0, a; cvta.param.u64 %rd1, %rd0;
ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [d];
mov.u32 %r0, %tid.x; mov.u32 %r1, shared;
add.s32 %r2, %r1, 4096;
add.s32 %r3, %r1, 6144;
setp.ne.s32 %p0, %r0, 0;
@%p0 bra FILL;
mov.u32 %r4, 1; mov.u32 %r5, 4096; mov.u32 %r6, 0;
mbarrier.init.shared::cta.b64 [%r3], %r4;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], %r5;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r6, %r6}], [%r3];
FILL:
setp.ge.u32 %p1, %r0, 32;
@%p1 bra FILLED;
mul.wide.u32 %rd4, %r0, 16; add.s64 %rd4, %rd4, %rd2;
ld.global.v4.u32 {%r7, %r8, %r9, %r10}, [%rd4];
shl.b32 %r11, %r0, 4;
shr.u32 %r12, %r0, 3; shl.b32 %r12, %r12, 4; xor.b32 %r11, %r11, %r12;
add.s32 %r11, %r11, %r2;
st.shared.v4.u32 [%r11], {%r7, %r8, %r9, %r10};
fence.proxy.async.shared::cta;
FILLED:
bar.sync 0;
mov.u32 %r13, 0;
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r13;
@!%p2 bra WAIT;
shr.u32 %r14, %r1, 4; cvt.u64.u32 %rd5, %r14;
shr.u32 %r15, %r2, 4; cvt.u64.u32 %rd6, %r15;
mov.u64 %rd7, 0x8000002000010000;
or.b64 %rd5, %rd5, %rd7; or.b64 %rd6, %rd6, %rd7;
mov.f32 %f0, 0f7FFFFFFF; mov.f32 %f1, 0f7FFFFFFF; mov.f32 %f2, 0f7FFFFFFF; mov.f32 %f3, 0f7FFFFFFF;
wgmma.fence.sync.aligned;
setp.ne.b32 %p3, 0, 0;
wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd5, %rd6, %p3, 1, 1, 0, 0;
add.s64 %rd5, %rd5, 2; add.s64 %rd6, %rd6, 2;
setp.eq.b32 %p3, 0, 0;
wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd5, %rd6, %p3, 1, 1, 0, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
shr.u32 %r16, %r0, 2; and.b32 %r17, %r16, 7; shr.u32 %r18, %r16, 3; shl.b32 %r18, %r18, 4; add.s32 %r17, %r17, %r18;
and.b32 %r18, %r0, 3; shl.b32 %r17, %r17, 2; add.s32 %r17, %r17, %r18;
mul.wide.u32 %rd8, %r17, 8; add.s64 %rd8, %rd8, %rd3;
st.global.v2.f32 [%rd8], {%f0, %f1};
st.global.v2.f32 [%rd8+256], {%f2, %f3};
ret;
})";

std::string play_product(const Kernel& kernel, const Schedule& schedule) {
  auto random = random_of(5);
  const Matrix left(64, 32, random), right(8, 32, random), want = product(left, right);
  struct alignas(256) Memory {
    uint16_t a[64 * 32], b[8 * 32];
    float d[64 * 8];
  };
  const auto memory = std::make_unique<Memory>();
  for (size_t i = 0; i < 64 * 32; i++) memory->a[i] = bf16_of(left.values[i]);
  // 32 threads, four a row of 32: in the order of the row's pieces.
  for (size_t i = 0; i < 8 * 32; i++) memory->b[i] = bf16_of(right.values[i]);
  GlobalMemory global;
  global.add(memory.get(), sizeof(Memory), "tensors");
  Map map(kBfloat16, memory->a, {32, 64}, {64}, {32, 64}, 2);
  uint64_t pointers[] = {reinterpret_cast<uint64_t>(memory->b), reinterpret_cast<uint64_t>(memory->d)};
  void* arguments[] = {map.bytes, &pointers[0], &pointers[1]};
  play(kernel, {{1, 1, 1}, {128, 1, 1}, {1, 1, 1}, 6144 + 8}, arguments, global, schedule);
  for (size_t i = 0; i < 64 * 8; i++)
    if (memory->d[i] != want.values[i]) return "element " + std::to_string(i) + ": " + std::to_string(memory->d[i]);
  return "";
}

/** Blocks of a pair: block 0 multicasts a box to both; each adds its rank, and block 1 tells block 0 that it has read.
 */
const char* const kPair = R"(
.entry pair(.param .align 128 .b8 from[128], .param .u64 to) .reqnctapercluster 2, 1, 1 {
.reg .pred %p<4>; .reg .b16 %rs<2>; .reg .b32 %r<20>; .reg .b64 %rd<8>;
mov.b64 %rd0, from; cvta.param.u64 %rd1, %rd0; ld.param.u64 %rd2, [to];
mov.u32 %r0, %tid.x; mov.u32 %r1, shared; mov.u32 %r2, %cluster_ctarank;
add.s32 %r3, %r1, 1024; add.s32 %r4, %r1, 1032;
setp.ne.s32 %p0, %r0, 0; mov.u32 %r5, 0;
@%p0 bra READY;
mov.u32 %r6, 1; mov.u32 %r7, 2;
mbarrier.init.shared::cta.b64 [%r3], %r6;
mbarrier.init.shared::cta.b64 [%r4], %r7;
fence.mbarrier_init.release.cluster;
READY:
barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; //start
@%p0 bra TURN;
mov.u32 %r8, 512;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], %r8;
TURN:
setp.ne.s32 %p1, %r2, 0;
or.pred %p1, %p1, %p0;
@%p1 bra WAIT;
mov.u16 %rs0, 3;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%rd1, {%r5, %r5}], [%r3], %rs0;
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r5;
@!%p2 bra WAIT;
shl.b32 %r9, %r0, 4; add.s32 %r10, %r9, %r1;
ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r10];
add.s32 %r11, %r11, %r2; add.s32 %r12, %r12, %r2; add.s32 %r13, %r13, %r2; add.s32 %r14, %r14, %r2;
mul.wide.u32 %rd3, %r9, 1; mul.wide.u32 %rd4, %r2, 512; add.s64 %rd3, %rd3, %rd4; add.s64 %rd3, %rd3, %rd2;
st.global.v4.u32 [%rd3], {%r11, %r12, %r13, %r14};
bar.warp.sync 0xffffffff;
@%p0 bra MET;
mapa.shared::cluster.u32 %r15, %r4, 0;
mbarrier.arrive.shared::cluster.b64 _, [%r15];
mapa.shared::cluster.u32 %r16, %r4, 1;
mbarrier.arrive.shared::cluster.b64 _, [%r16];
MET:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r4], %r5;
@!%p2 bra MET;
barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; //end
ret;
})";

std::string play_pair(const Kernel& kernel, const Schedule& schedule) {
  struct alignas(256) Memory {
    uint32_t from[4 * 32], to[2 * 4 * 32];
  };
  const auto memory = std::make_unique<Memory>();
  for (uint32_t i = 0; i < 128; i++) memory->from[i] = 1000 + i;
  GlobalMemory global;
  global.add(memory.get(), sizeof(Memory), "tensors");
  Map map(2, memory->from, {32, 4}, {128}, {32, 4}, 0);  // uint32
  uint64_t to = reinterpret_cast<uint64_t>(memory->to);
  void* arguments[] = {map.bytes, &to};
  play(kernel, {{2, 1, 1}, {32, 1, 1}, {2, 1, 1}, 1024 + 16}, arguments, global, schedule);
  for (uint32_t i = 0; i < 256; i++)
    if (memory->to[i] != 1000 + i % 128 + i / 128) return "element " + std::to_string(i);
  return "";
}

}  // namespace

TEST("a product of operands by TMA and by ordinary stores comes out right under every schedule") {
  must_be_right(kProduct, play_product);
}

TEST("each step that a product leaves out or does wrongly is noticed") {
  const auto caught = [](const char* from, const char* to, const char* part) {
    must_be_caught(kProduct, from, to, part, play_product);
  };
  caught("fence.proxy.async.shared::cta;", "", "no fence.proxy.async covers");
  caught("FILLED:\nbar.sync 0;", "FILLED:", "");
  caught("@!%p2 bra WAIT;", "", "still writes");
  caught("wgmma.fence.sync.aligned;", "", "after the last wgmma.fence");
  caught("wgmma.wait_group.sync.aligned 0;", "", "under way");
  caught("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", "under way");
  caught("wgmma.commit_group.sync.aligned;", "", "not committed");
  caught("add.s64 %rd5, %rd5, 2; add.s64 %rd6, %rd6, 2;", "add.s64 %rd5, %rd5, 2;", "element");
  caught("0x8000002000010000", "0x4000002000010000", "no multiple of the swizzle pattern");  // 128-byte mode
  caught("0x8000002000010000", "0xC000002000010000", "");                                    // 32-byte mode
  caught("0x8000002000010000", "0x8002002000010000", "base offset");
  caught("xor.b32 %r11, %r11, %r12;", "", "element");                     // B not swizzled
  caught("1, 1, 0, 0;\nadd", "1, 1, 0, 1;\nadd", "");                     // B taken as MN-major
  caught("1, 1, 0, 0;\nadd", "-1, 1, 0, 0;\nadd", "element");             // its sign
  caught("setp.ne.b32 %p3, 0, 0;", "setp.eq.b32 %p3, 0, 0;", "element");  // adds to what was there
  caught("[%rd8+256], {%f2, %f3}", "[%rd8+256], {%f3, %f2}", "element");
  // A load into an operand while the product may still read it.
  caught("wgmma.commit_group.sync.aligned;", R"(wgmma.commit_group.sync.aligned;
@%p0 bra NEXT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], %r5;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r6, %r6}], [%r3];
NEXT:)",
         "handed back too early");
  // A store over B likewise.
  caught("wgmma.commit_group.sync.aligned;", "wgmma.commit_group.sync.aligned;\nst.shared.u32 [%r2], %r0;",
         "still reads");
}

TEST("blocks of a pair share a box by multicast under every schedule") { must_be_right(kPair, play_pair); }

TEST("each step that a pair of blocks leaves out or does wrongly is noticed") {
  const auto caught = [](const char* from, const char* to, const char* part) {
    must_be_caught(kPair, from, to, part, play_pair);
  };
  const std::string sync = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; ";
  must_be_caught(kPair, sync + "//start", "", "mbarrier", play_pair);
  // Who has waited for both arrivals may leave, as nobody needs it any more; who has not may not.
  const std::string body = kPair, alone = body.substr(0, body.find(sync + "//end")) + "ret;\n}";
  must_be_right(alone, play_pair);
  must_be_caught(alone, "@!%p2 bra MET;", "", "exited", play_pair);
  caught("fence.mbarrier_init.release.cluster;", "", "never ran fence.mbarrier_init");
  caught("mov.u16 %rs0, 3;", "mov.u16 %rs0, 1;", "");
  caught("mov.u16 %rs0, 3;", "mov.u16 %rs0, 2;", "");
  caught("mov.u16 %rs0, 3;", "mov.u16 %rs0, 7;", "rank 2 in a cluster of 2");
  caught("@!%p2 bra WAIT;", "", "still writes");
  caught("mov.u32 %r7, 2;", "mov.u32 %r7, 1;", "");
  caught("mapa.shared::cluster.u32 %r16, %r4, 1;", "mapa.shared::cluster.u32 %r16, %r4, 0;", "");
  caught("mapa.shared::cluster.u32 %r16, %r4, 1;", "mapa.shared::cluster.u32 %r16, %r4, 2;", "");
  caught("barrier.cluster.wait.acquire.aligned; //start", "//start", "");
}

TEST_MAIN()
