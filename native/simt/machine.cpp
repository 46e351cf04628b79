#include "native/simt/machine.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <sstream>

#include "native/simt/sabotage.h"

namespace thalweg::simt {

namespace {

thread_local StackPool stack_pool;

constexpr std::byte kPoison{0xFF};  // bf16 and fp32 read it as NaN, integers as -1

std::string triple(const Dim3& d) {
  std::ostringstream text;
  text << '(' << d.x << ", " << d.y << ", " << d.z << ')';
  return text.str();
}

Dim3 unravel(unsigned linear, const Dim3& shape) {
  return {linear % shape.x, linear / shape.x % shape.y, linear / (shape.x * shape.y)};
}

std::byte* aligned(std::vector<std::byte>& memory, size_t bytes) {
  memory.assign(bytes + kSharedBase, kPoison);
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + ((at + kSharedBase - 1) / kSharedBase * kSharedBase - at);
}

}  // namespace

std::string where(const Thread& t) {
  return "block " + triple(t.cta->index) + " thread " + std::to_string(t.linear) + " (warp " +
         std::to_string(t.linear / kWarpSize) + ", lane " + std::to_string(t.lane) + ")";
}

Machine::Machine(const LaunchShape& shape, const Schedule& schedule, unsigned resident, std::function<void()> body)
    : shape_(shape), schedule_(schedule), resident_(resident), body_(std::move(body)), random_(schedule.seed) {
  const unsigned threads = shape.block.count();
  if (threads == 0 || threads > kMaxThreads) fail("KERNEL_FAULT", "a block of ", threads, " threads");
  if (shape.grid.count() == 0) fail("KERNEL_FAULT", "a grid of no blocks");
  if (shape.grid.x % shape.cluster.x != 0 || shape.grid.y % shape.cluster.y != 0 || shape.grid.z % shape.cluster.z != 0)
    fail("KERNEL_FAULT", "a grid ", triple(shape.grid), " that clusters ", triple(shape.cluster), " do not tile");
  if (shape.cluster.count() > 8) fail("KERNEL_FAULT", "a cluster of ", shape.cluster.count(), " blocks, at most 8");
}

Machine::~Machine() { machine = nullptr; }

std::vector<size_t> Machine::take_stacks(size_t count) {
  std::vector<size_t> taken;
  while (taken.size() < count) {
    if (free_stacks_.empty()) free_stacks_.push_back(stacks_made_++);
    taken.push_back(free_stacks_.back());
    free_stacks_.pop_back();
  }
  return taken;
}

std::unique_ptr<Cta> Machine::make_cta(Cluster& cluster, unsigned block, unsigned rank) {
  auto cta = std::make_unique<Cta>();
  const Dim3 clusters = {shape_.grid.x / shape_.cluster.x, shape_.grid.y / shape_.cluster.y,
                         shape_.grid.z / shape_.cluster.z};
  const Dim3 corner = unravel(block, clusters), inner = unravel(rank, shape_.cluster);
  cta->index = {corner.x * shape_.cluster.x + inner.x, corner.y * shape_.cluster.y + inner.y,
                corner.z * shape_.cluster.z + inner.z};
  cta->rank = rank;
  cta->cluster = &cluster;
  cta->shared_bytes = shape_.shared_bytes;
  cta->shared = aligned(cta->memory, shape_.shared_bytes);
  cta->proxy = aligned(cta->proxy_memory, shape_.shared_bytes);
  const unsigned n = shape_.block.count();
  cta->live = n;
  cta->threads = std::vector<Thread>(n);
  cta->stacks = take_stacks(n);
  cta->warps = std::vector<Warp>((n + kWarpSize - 1) / kWarpSize);
  cta->warpgroups = std::vector<Warpgroup>((n + 127) / 128);
  // What a block of one a multiprocessor starts with; setmaxnreg moves these and no others (of 65,536, 384 threads
  // leave 1,024 that nobody gets).
  const unsigned registers = std::min(255u, 65536 / n) / 8 * 8;
  for (auto& group : cta->warpgroups) group.registers = registers;
  for (unsigned i = 0; i < n; i++) {
    Thread& t = cta->threads[i];
    t.index = unravel(i, shape_.block);
    t.linear = i;
    t.lane = i % kWarpSize;
    t.warp = &cta->warps[i / kWarpSize];
    t.cta = cta.get();
    t.warp->lanes[t.lane] = &t;
    t.warp->size++;
    t.warp->ready |= uint32_t{1} << t.lane;
    t.fiber.start(stack_pool.at(cta->stacks[i]), StackPool::kBytes, &Machine::thread_entry, &t);
  }
  return cta;
}

void Machine::admit() {
  const unsigned total = shape_.grid.count() / shape_.cluster.count();
  while (clusters_.size() < resident_ && next_block_ < total) {
    auto cluster = std::make_unique<Cluster>();
    const unsigned block = schedule_.last_block_first ? total - 1 - next_block_ : next_block_;
    for (unsigned rank = 0; rank < shape_.cluster.count(); rank++)
      cluster->ctas.push_back(make_cta(*cluster, block, rank));
    cluster->live = shape_.cluster.count();
    for (auto& cta : cluster->ctas)
      for (auto& warp : cta->warps) warps_.push_back(&warp);
    clusters_.push_back(std::move(cluster));
    next_block_++;
  }
}

void Machine::retire_finished() {
  for (size_t i = 0; i < clusters_.size();) {
    Cluster& cluster = *clusters_[i];
    if (cluster.live > 0) {
      i++;
      continue;
    }
    std::erase_if(warps_, [&](const Warp* w) { return w->lanes[0]->cta->cluster == &cluster; });
    for (auto& cta : cluster.ctas) free_stacks_.insert(free_stacks_.end(), cta->stacks.begin(), cta->stacks.end());
    retired_.push_back(std::move(clusters_[i]));
    clusters_.erase(clusters_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (posted_.empty()) retired_.clear();
}

void Machine::thread_entry(void* argument) {
  auto* t = static_cast<Thread*>(argument);
  try {
    machine->body_();
  } catch (const std::exception& e) {
    machine->error_ = e.what();
  }
  t->done = true;
  t->warp->ready &= ~(uint32_t{1} << t->lane);
  Cta& cta = *t->cta;
  if (--cta.live == 0) {
    cta.cluster->live--;
    std::memset(cta.shared, static_cast<int>(kPoison), cta.shared_bytes);  // bulk stores it did not wait for see this
    std::memset(cta.proxy, static_cast<int>(kPoison), cta.shared_bytes);
  }
  machine->leave();
}

void Machine::leave() {
  Thread* t = current;
  const uint32_t ready = error_.empty() ? t->warp->ready : 0;
  if (ready == 0) {
    Fiber::swap(t->fiber, scheduler_);
  } else {
    const unsigned rotation = t->warp->rotation;
    const unsigned lane =
        (static_cast<unsigned>(std::countr_zero(std::rotr(ready, static_cast<int>(rotation)))) + rotation) % kWarpSize;
    current = t->warp->lanes[lane];
    if (current != t) Fiber::swap(t->fiber, current->fiber);
  }
}

void Machine::park(const char* what) {
  Thread* t = current;
  t->warp->ready &= ~(uint32_t{1} << t->lane);
  t->waiting_for = what;
  leave();
  t->waiting_for = nullptr;
}

void Machine::wait_until(const char* what, bool (*ready)(void*), void* argument) {
  Thread* t = current;
  t->ready = ready;
  t->ready_argument = argument;
  t->warp->polling |= uint32_t{1} << t->lane;
  park(what);
}

void Machine::yield() { Fiber::swap(current->fiber, scheduler_); }

bool Machine::wake_polling(Warp& warp) {
  for (uint32_t left = warp.polling; left != 0; left &= left - 1) {
    Thread& t = *warp.lanes[static_cast<unsigned>(std::countr_zero(left))];
    if (!t.ready(t.ready_argument)) continue;
    warp.polling &= ~(uint32_t{1} << t.lane);
    warp.ready |= uint32_t{1} << t.lane;
  }
  return warp.ready != 0;
}

Warp* Machine::pick() {
  const size_t n = warps_.size();
  size_t start = 0;
  if (!schedule_.strict_warps)
    start = random() % n;
  else if (picks_ % 64 == 0)
    std::shuffle(warps_.begin(), warps_.end(), random_);
  picks_++;
  for (size_t i = 0; i < n; i++) {
    Warp& warp = *warps_[(start + i) % n];
    if (wake_polling(warp)) return &warp;
  }
  return nullptr;
}

void Machine::run_warp(Warp& warp) {
  warp.rotation = random() % kWarpSize;
  const uint32_t turned = std::rotr(warp.ready, static_cast<int>(warp.rotation));
  current = warp.lanes[(static_cast<unsigned>(std::countr_zero(turned)) + warp.rotation) % kWarpSize];
  Fiber::swap(scheduler_, current->fiber);
  current = nullptr;
  if (!error_.empty()) fail("KERNEL_FAULT", error_, " [", schedule_.describe(), "]");
}

void Machine::post(Timing timing, std::function<void()> work) {
  if (timing == Timing::Early) {
    work();
    return;
  }
  posted_.push_back({timing == Timing::Random ? static_cast<int>(random() % 50) : 1 << 30, std::move(work)});
}

bool Machine::run_posted(bool now) {
  if (posted_.empty()) return false;
  size_t chosen = posted_.size();
  if (now) {
    chosen = random() % posted_.size();
  } else {
    for (size_t i = 0; i < posted_.size(); i++)
      if (--posted_[i].delay <= 0) chosen = i;
  }
  if (chosen == posted_.size()) return false;
  const auto work = std::move(posted_[chosen].work);
  posted_.erase(posted_.begin() + static_cast<std::ptrdiff_t>(chosen));
  work();
  return true;
}

void Machine::deadlock() {
  std::map<std::pair<unsigned, std::string>, std::pair<unsigned, const Thread*>> waiting;
  unsigned exited = 0, block = 0;
  for (const auto& cluster : clusters_) {
    for (const auto& cta : cluster->ctas) {
      for (const auto& t : cta->threads) {
        if (t.done) {
          exited++;
          continue;
        }
        auto& entry = waiting[{block, t.waiting_for ? t.waiting_for : "nothing"}];
        entry.first++;
        if (entry.second == nullptr) entry.second = &t;
      }
      block++;
    }
  }
  std::string text = "deadlock:";
  for (const auto& [key, entry] : waiting)
    text += "\n  " + std::to_string(entry.first) + " threads of block " + triple(entry.second->cta->index) +
            ", the first " + std::to_string(entry.second->linear) + ", wait for " + key.second;
  if (exited > 0) text += "\n  " + std::to_string(exited) + " threads have exited";
  fail("KERNEL_FAULT", text, " [", schedule_.describe(), "]");
}

void Machine::run() {
  machine = this;
  current = nullptr;
  for (admit(); !clusters_.empty(); admit()) {
    Warp* warp = pick();
    if (warp != nullptr) {
      run_warp(*warp);
      run_posted(false);
    } else if (!run_posted(true)) {
      deadlock();
    }
    retire_finished();
  }
  while (run_posted(true)) {
  }
}

void launch(const LaunchShape& shape, const Schedule& schedule, unsigned resident, std::function<void()> body) {
  Machine(shape, schedule, resident, std::move(body)).run();
}

namespace {

constexpr unsigned kRankShift = 24;  // a cluster address: rank above, offset below

std::byte* resolve(Cta& own, uint32_t address, size_t bytes, bool proxy) {
  const unsigned rank = address >> kRankShift;
  Cta* cta = &own;
  if (rank != 0) {
    if (rank - 1 >= own.cluster->ctas.size())
      fault("shared address of block ", rank - 1, " of a cluster of ", own.cluster->ctas.size());
    cta = own.cluster->ctas[rank - 1].get();
    if (cta->retired()) fault("shared memory of block ", rank - 1, " of the cluster used after that block exited");
  }
  const uint32_t offset = address & ((1u << kRankShift) - 1);
  if (offset < kSharedBase || offset - kSharedBase + bytes > cta->shared_bytes)
    fault("shared address ", offset, " + ", bytes, " bytes lies outside the ", cta->shared_bytes,
          " bytes of the block");
  return (proxy ? cta->proxy : cta->shared) + (offset - kSharedBase);
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  const auto* p = static_cast<const std::byte*>(pointer);
  Cta& own = *current->cta;
  if (p >= own.shared && p <= own.shared + own.shared_bytes) return static_cast<uint32_t>(p - own.shared) + kSharedBase;
  for (const auto& cta : own.cluster->ctas)
    if (p >= cta->shared && p <= cta->shared + cta->shared_bytes)
      return static_cast<uint32_t>(p - cta->shared) + kSharedBase + ((cta->rank + 1) << kRankShift);
  fault("a pointer that is not into shared memory was used as a shared address");
}

std::byte* shared_at(Cta& cta, uint32_t address, size_t bytes) { return resolve(cta, address, bytes, false); }
std::byte* proxy_at(Cta& cta, uint32_t address, size_t bytes) { return resolve(cta, address, bytes, true); }

void note_shared_write(const void* pointer, uint32_t bytes) {
  current->unfenced.ranges.push_back({shared_address(pointer), bytes});
}

void fence_proxy_async() {
  if (sabotage.hits(Sabotage::Kind::ProxyFence)) return;
  Thread& t = *current;
  for (const auto& range : t.unfenced.ranges)
    std::memcpy(proxy_at(*t.cta, range.at, range.bytes), shared_at(*t.cta, range.at, range.bytes), range.bytes);
  t.unfenced.ranges.clear();
}

}  // namespace thalweg::simt
