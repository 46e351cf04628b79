#include "test/native/simt/hopper_gemm.h"

using namespace check;

namespace {

template <GemmBug Bug>
void caught(const char* name, const char* text = "") {
  must_be_caught(
      name, [] { return run_gemm<0, 1, Bug>(256, 256, 320, 1); }, text);
}

}  // namespace

TEST("a Hopper product is right in all four operand majors and on ragged shapes, under all schedules") {
  must_be_right([] { return run_gemm<0, 0, GemmBug::None>(128, 256, 192, 2); });
  must_be_right([] { return run_gemm<0, 1, GemmBug::None>(256, 128, 192, 1); });
  must_be_right([] { return run_gemm<1, 0, GemmBug::None>(128, 128, 128, 1); });
  must_be_right([] { return run_gemm<1, 1, GemmBug::None>(128, 128, 128, 1); });
  must_be_right([] { return run_gemm<0, 0, GemmBug::None>(200, 152, 88, 1); });
}

TEST("stages filled too early, waited for wrongly or given back too early are caught") {
  caught<GemmBug::NoEmptyWait>("no wait for an empty stage");
  caught<GemmBug::WrongParity>("wrong parity", "deadlock");
  caught<GemmBug::NoFullWait>("no wait for a full stage");
  caught<GemmBug::EarlyRelease>("stage released before wgmma read it");
  caught<GemmBug::TooFewBytes>("too few bytes expected");
}

TEST("descriptors, swizzles and fences that are wrong are caught") {
  caught<GemmBug::SwappedOffsets>("LBO and SBO swapped");
  caught<GemmBug::NoEpilogueSwizzle>("no swizzle in the epilogue");
  caught<GemmBug::NoProxyFence>("no proxy fence");
  caught<GemmBug::NoWgmmaFence>("no wgmma.fence", "wgmma.fence");
  caught<GemmBug::NoInitFence>("no fence after mbarrier.init", "fence.mbarrier_init");
}

TEST("an epilogue that reuses its buffer, skips its barrier or leaves before its store is caught") {
  caught<GemmBug::StagingReused>("staging buffer reused");
  caught<GemmBug::NoBarrier>("store before all warps wrote");
  caught<GemmBug::NoFinalWait>("exit before the store read shared memory");
}

TEST("claiming more registers than were released is a deadlock that says so") {
  caught<GemmBug::GreedyRegisters>("greedy setmaxnreg", "setmaxnreg");
}

TEST_MAIN()
