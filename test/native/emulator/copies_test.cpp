#include "test/native/emulator/copies_support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

constexpr CopyTiming kTimings[] = {CopyTiming::AtOnce, CopyTiming::Random, CopyTiming::Late};
constexpr uint32_t kBarrier = 30000;

template <class T>
T read_at(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

TEST("cp.async lands when its group is waited for, zeros behind the source's end") {
  for (const CopyTiming timing : kTimings) {
    Cluster cluster(timing);
    Global<uint32_t> from(cluster, 64);
    for (uint32_t i = 0; i < 64; i++) from.data[i] = 100 + i;
    const Issuer who{0, 5};
    cluster.copies->start(who, 0, from.address(), 16, 16);
    cluster.copies->commit(who);
    cluster.copies->start(who, 16, from.address(4), 16, 4);
    cluster.copies->start(who, 32, from.address(8), 16, 0);
    cluster.copies->commit(who);
    cluster.copies->start(who, 48, from.address(12), 8, 8);
    cluster.copies->commit(who);
    cluster.copies->wait(who, 2);
    CHECK(read_at<uint32_t>(cluster.at(12)) == 103);
    if (timing == CopyTiming::Late) {
      CHECK(!cluster.copies->step(cluster.random, false));
      CHECK(read_at<uint32_t>(cluster.at(16)) == 0xffffffff);
    }
    cluster.copies->wait(who, 1);
    CHECK(read_at<uint32_t>(cluster.at(16)) == 104 && read_at<uint32_t>(cluster.at(20)) == 0);
    CHECK(read_at<uint64_t>(cluster.at(32)) == 0 && read_at<uint64_t>(cluster.at(40)) == 0);
    cluster.copies->wait(who, 0);
    CHECK(read_at<uint32_t>(cluster.at(52)) == 113 && read_at<uint32_t>(cluster.at(56)) == 0xffffffff);
    CHECK(cluster.copies->idle());
  }
}

TEST("cp.async faults on sizes, addresses and bytes in use") {
  Cluster cluster(CopyTiming::Late);
  Global<uint32_t> from(cluster, 64);
  const Issuer who{0, 1};
  CHECK_FAULT("expected 4, 8 or 16", cluster.copies->start(who, 0, from.address(), 12, 12));
  CHECK_FAULT("source size", cluster.copies->start(who, 0, from.address(), 8, 9));
  CHECK_FAULT("multiple of 16", cluster.copies->start(who, 8, from.address(), 16, 16));
  CHECK_FAULT("no multiple of 16", cluster.copies->start(who, 0, from.address(2), 16, 16));
  CHECK_FAULT("outside of global", cluster.copies->start(who, 0, from.address(64), 16, 16));
  cluster.copies->start(who, 0, from.address(64), 16, 0);  // nothing is read
  CHECK_FAULT("of 16 bytes at offset 32768", cluster.copies->start(who, 32768, from.address(), 16, 16));
  cluster.copies->start(who, 16, from.address(), 16, 16);
  CHECK_FAULT("still writes", cluster.proxies[0]->ordinary_read(7, 20, 4));
  CHECK_FAULT("still writes", cluster.proxies[0]->ordinary_write(7, 20, 4));
  CHECK_FAULT("still writes", cluster.copies->start(who, 16, from.address(), 16, 16));
  CHECK_FAULT("cp.async of thread 1", cluster.copies->leave(0));
  cluster.copies->commit(who);
  cluster.copies->wait(who, 0);
  cluster.proxies[0]->ordinary_read(7, 20, 4);
  cluster.copies->leave(0);
}

TEST("bulk loads bring bytes and signal them; they may be early or late") {
  for (const CopyTiming timing : kTimings) {
    Cluster cluster(timing);
    Global<uint32_t> from(cluster, 1024);
    for (uint32_t i = 0; i < 1024; i++) from.data[i] = i;
    cluster.barrier(kBarrier, 4096);
    cluster.copies->load({0, 0}, 1024, from.address(), 2048, kBarrier);
    cluster.copies->load({0, 1}, 1024 + 2048, from.address(512), 2048, kBarrier);
    if (timing != CopyTiming::AtOnce) {
      CHECK(!cluster.over(kBarrier));
      CHECK_FAULT("still writes", cluster.proxies[0]->ordinary_read(0, 1024, 4));
      CHECK_FAULT("still writes", cluster.copies->leave(0));
    }
    CHECK(cluster.copies->step(cluster.random, timing == CopyTiming::Late) == (timing != CopyTiming::AtOnce));
    CHECK(cluster.over(kBarrier) == (timing == CopyTiming::AtOnce));
    cluster.drain();
    CHECK(cluster.over(kBarrier));
    cluster.proxies[0]->ordinary_read(0, 1024, 4096);
    for (uint32_t i = 0; i < 1024; i++) CHECK(read_at<uint32_t>(cluster.at(1024 + 4 * i)) == i);
    cluster.copies->leave(0);
  }
}

TEST("bulk copies fault on alignment, ranges and mbarriers that are none") {
  Cluster cluster(CopyTiming::Late, 32 * 1024, 2);
  Global<uint32_t> from(cluster, 1024);
  cluster.barrier(kBarrier, 64);
  const Issuer who{0, 0};
  Copies& copies = *cluster.copies;
  CHECK_FAULT("expected a multiple of 16", copies.load(who, 8, from.address(), 64, kBarrier));
  CHECK_FAULT("no multiple of 16", copies.load(who, 0, from.address(1), 64, kBarrier));
  CHECK_FAULT("of 40 bytes", copies.load(who, 0, from.address(), 40, kBarrier));
  CHECK_FAULT("reads outside", copies.load(who, 0, from.address(1020), 64, kBarrier));
  CHECK_FAULT("which has 32768", copies.load(who, 32768 - 32, from.address(), 64, kBarrier));
  CHECK_FAULT("no mbarrier is initialised", copies.load(who, 0, from.address(), 64, kBarrier + 16));
  CHECK_FAULT("expected a multiple of 8", copies.load(who, 0, from.address(), 64, kBarrier + 4));
  CHECK_FAULT("both in one block", copies.load(who, 2u << 24, from.address(), 64, kBarrier));
  CHECK_FAULT("rank 2 in a cluster of 2", copies.load(who, 3u << 24, from.address(), 64, kBarrier));
  CHECK_FAULT("live mbarrier", copies.load(who, kBarrier, from.address(), 64, kBarrier));
  CHECK_FAULT("writes outside", copies.store(who, from.address(1020), 0, 64));
  CHECK_FAULT("of another block", copies.store(who, from.address(), 2u << 24, 64));
  copies.load(who, 0, from.address(), 64, kBarrier);
  CHECK_FAULT("another still writes", copies.load(who, 48, from.address(), 64, kBarrier));
  CHECK_FAULT("still writes", copies.store(who, from.address(), 0, 64));
  cluster.drain();
  copies.leave(1);
  CHECK_FAULT("which has exited", copies.load(who, 2u << 24, from.address(), 64, 2u << 24 | kBarrier));
}

TEST("a load over ordinary stores needs a fence by the storing thread, or by another behind a barrier") {
  Cluster cluster(CopyTiming::Late);
  Global<uint32_t> memory(cluster, 64);
  cluster.barrier(kBarrier, 1 << 12);
  ProxyState& proxies = *cluster.proxies[0];
  const Issuer who{0, 0};
  proxies.ordinary_write(70, 16, 4);
  CHECK_FAULT("thread 70", cluster.copies->load(who, 0, memory.address(), 64, kBarrier));
  CHECK_FAULT("thread 70", cluster.copies->store(who, memory.address(), 0, 64));
  proxies.fence(0);
  CHECK_FAULT("thread 70", cluster.copies->store(who, memory.address(), 0, 64));
  const uint32_t warps[] = {0, 2, 3};
  proxies.meet(warps);
  CHECK_FAULT("thread 70", cluster.copies->store(who, memory.address(), 0, 64));  // no fence behind the barrier yet
  proxies.fence(40);                                                              // warp 1 was not at the barrier
  CHECK_FAULT("thread 70", cluster.copies->store(who, memory.address(), 0, 64));
  proxies.fence(0);
  cluster.copies->store(who, memory.address(), 0, 64);
  proxies.ordinary_write(70, 128, 4);  // behind the barrier
  CHECK_FAULT("thread 70", cluster.copies->store(who, memory.address(), 128, 64));
  proxies.fence(70);
  cluster.copies->store(who, memory.address(), 128, 64);
  // What copies bring in needs no fence to be copied out.
  cluster.copies->load(who, 1024, memory.address(), 64, kBarrier);
  cluster.drain();
  cluster.copies->store(who, memory.address(), 1024, 64);
  proxies.ordinary_write(1, 2048, 16);
  cluster.copies->commit_bulk(who);
}

TEST("bulk stores read their source until .read is waited for, and are seen when all is") {
  for (const CopyTiming timing : kTimings) {
    Cluster cluster(timing);
    Global<uint32_t> to(cluster, 64);
    std::fill(to.data, to.data + 64, 1u);
    const Issuer who{0, 3}, other{0, 4};
    cluster.copies->store(who, to.address(), 0, 128);
    cluster.copies->commit_bulk(who);
    cluster.copies->store(who, to.address(32), 128, 128);
    cluster.copies->commit_bulk(who);
    cluster.copies->commit_bulk(other);
    cluster.copies->wait_bulk(other, 0, false);  // has nothing to wait for
    if (timing != CopyTiming::AtOnce) CHECK_FAULT("wait_group.read", cluster.proxies[0]->ordinary_write(9, 0, 4));
    cluster.copies->wait_bulk(who, 1, true);
    cluster.proxies[0]->ordinary_write(9, 0, 4);
    std::memset(cluster.at(0), 0, 128);  // too late to matter
    if (timing == CopyTiming::Late) {
      CHECK(to.data[0] == 1);
      CHECK_FAULT("wait_group.read", cluster.proxies[0]->ordinary_write(9, 128, 4));
      CHECK_FAULT("store still reads", cluster.copies->leave(0));
    }
    cluster.copies->wait_bulk(who, 1, false);
    CHECK(to.data[0] == 0xffffffff && to.data[31] == 0xffffffff);
    cluster.copies->wait_bulk(who, 0, true);
    cluster.copies->leave(0);
    if (timing == CopyTiming::Late) CHECK(to.data[32] == 1);
    cluster.copies->finish();
    CHECK(to.data[32] == 0xffffffff && cluster.copies->idle());
  }
}

TEST("bulk additions of float32 add once each and flush subnormal numbers") {
  for (const CopyTiming timing : kTimings) {
    Cluster cluster(timing);
    Global<float> to(cluster, 32);
    for (int i = 0; i < 32; i++) {
      to.data[i] = static_cast<float>(i);
      const float add = 0.5f;
      std::memcpy(cluster.at(static_cast<uint32_t>(4 * i)), &add, 4);
    }
    const float small = 1e-40f, minus = -1e-39f, least = 1.5e-38f, less = -1.4e-38f;
    to.data[1] = 0;
    std::memcpy(cluster.at(4), &small, 4);
    to.data[2] = minus;
    std::memcpy(cluster.at(8), &minus, 4);
    to.data[3] = least;
    std::memcpy(cluster.at(12), &less, 4);  // the sum is subnormal
    cluster.copies->add_floats({0, 0}, to.address(), 0, 128);
    cluster.copies->add_floats({0, 1}, to.address(16), 64, 64);
    cluster.copies->finish();
    CHECK(to.data[0] == 0.5f && to.data[15] == 15.5f && to.data[16] == 17.0f && to.data[31] == 32.0f);
    CHECK(to.data[1] == 0 && to.data[3] == 0);
    CHECK(to.data[2] == 0 && std::signbit(to.data[2]));
  }
}

TEST("random stores, loads and waits of many threads come out as program order says") {
  for (int round = 0; round < 20; round++) {
    Cluster cluster(kTimings[round % 3]);
    auto random = random_of(static_cast<uint64_t>(round));
    Global<uint32_t> memory(cluster, 16 * 64);
    for (size_t i = 0; i < memory.count; i++) memory.data[i] = static_cast<uint32_t>(i);
    // Thread t moves its 16 values through shared memory: cp.async in, bulk store out, shifted by one slot each turn.
    for (uint32_t turn = 0; turn < 3; turn++) {
      for (uint32_t t = 0; t < 64; t++)
        for (uint32_t p = 0; p < 4; p++)
          cluster.copies->start({0, t}, t * 64 + 16 * p, memory.address(t * 16 + 4 * p), 16, 16);
      for (uint32_t t = 0; t < 64; t++) {
        if (random() % 2) cluster.copies->step(random, random() % 2);
        cluster.copies->commit({0, t});
        cluster.copies->wait({0, t}, 0);
        cluster.proxies[0]->fence(t);
      }
      for (uint32_t t = 0; t < 64; t++) {
        cluster.copies->store({0, t}, memory.address((t + 1) % 64 * 16), t * 64, 64);
        if (random() % 2) cluster.copies->step(random, random() % 2);
        cluster.copies->commit_bulk({0, t});
      }
      for (uint32_t t = 0; t < 64; t++) cluster.copies->wait_bulk({0, t}, 0, false);
    }
    for (uint32_t t = 0; t < 64; t++)
      for (uint32_t i = 0; i < 16; i++) CHECK(memory.data[(t + 3) % 64 * 16 + i] == t * 16 + i, "round ", round);
  }
}

TEST_MAIN()
