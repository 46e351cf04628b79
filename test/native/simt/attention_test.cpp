// The sm_90a attention kernels with one step of their synchronisation left out: each must be missed.
#include "native/simt/sabotage.h"
#include "test/native/cuda/attention_command.h"
#include "test/native/simt/support.h"

using namespace check;
using namespace check::attention;
using simt::Sabotage;
using Kind = simt::Sabotage::Kind;

namespace {

struct Step {
  const char* what;
  Kind kind;
  int which = 0;
};

/** Runs of one op whose results are those of the run without sabotage, or are not. */
struct Subject {
  std::function<Doubles()> run;
  double slack;  // by which values may differ, of themselves; 0: their bits must be the same
  Doubles right;

  explicit Subject(std::function<Doubles()> values, double difference = 0)
      : run(std::move(values)), slack(difference), right(run()) {}
  std::string wrong() const {
    const Doubles found = run();
    for (size_t i = 0; i < right.size(); i++)
      if (!(std::fabs(found[i] - right[i]) <= slack * (0.01 + std::fabs(right[i]))))
        return "value " + std::to_string(i) + " is " + std::to_string(found[i]) + ", not " + std::to_string(right[i]);
    return "";
  }
  void must_need(const Step& step) const {
    simt::sabotage = {step.kind, step.which};
    try {
      must_be_caught(step.what, [&] { return wrong(); });
    } catch (...) {
      simt::sabotage = {};
      throw;
    }
    simt::sabotage = {};
  }
};

/** One block has several tiles, and a tile more keys than its ring has slots. */
const Problem kProblem{1, 640, 1, 1, 64};

/** A document that leaves the later warpgroups of a tile keys to pass over, and one more in the middle of a tile. */
Starts documents() {
  Starts starts(static_cast<size_t>(kProblem.rows()));
  for (size_t t = 0; t < starts.size(); t++) starts[t] = t < 450 ? 0 : t < 545 ? 450 : 545;
  return starts;
}

Subject forward(const Starts& starts) {
  const Doubles qkv = random_values(kProblem.rows() * kProblem.qkv_width(), DType::BF16, 1);
  return Subject([qkv, starts] {
    Forward f(kProblem, DType::BF16, qkv);
    on_device(90, 1, [&] { f.run(kProblem, kProblem.scale(), starts); });
    Doubles values = f.y.get();
    const Doubles lse = f.lse.get();
    values.insert(values.end(), lse.begin(), lse.end());
    return values;
  });
}

/** bf16 rounds what was added in another order to the same value or, rarely, to the next. */
constexpr double kNextValue = 0x1p-7;

Subject backward(const Starts& starts, bool any_order = false) {
  const Doubles qkv = random_values(kProblem.rows() * kProblem.qkv_width(), DType::BF16, 1),
                dy = random_values(kProblem.rows() * kProblem.y_width(), DType::BF16, 2);
  Forward f(kProblem, DType::BF16, qkv);
  on_device(90, 1, [&] { f.run(kProblem, kProblem.scale(), starts); });
  const auto run = [f, dy, starts, any_order] {
    Backward b(kProblem, DType::BF16, dy);
    on_device(90, 1, [&] { b.run(kProblem, f, kProblem.scale(), starts, any_order); });
    return b.dqkv.get();
  };
  return Subject(run, any_order ? kNextValue : 0);
}

/** mbarriers: in the order of init() in the kernel. */
std::vector<Step> each_mbarrier(std::initializer_list<const char*> names) {
  std::vector<Step> steps;
  int which = 0;
  for (const char* name : names) {
    steps.push_back({name, Kind::MbarrierWait, which});
    steps.push_back({name, Kind::MbarrierParity, which});
    which++;
  }
  return steps;
}

}  // namespace

TEST("the forward kernel needs each of its waits, fences and barriers, with documents and without") {
  auto steps = each_mbarrier({"keys 0 full", "keys 0 empty", "keys 1 full", "keys 1 empty", "values 0 full",
                              "values 0 empty", "values 1 full", "values 1 empty", "queries full", "queries empty"});
  for (int empty : {1, 3, 5, 7, 9}) steps.push_back({"a release", Kind::MbarrierArrive, empty});
  for (int w : {4, 5, 6}) steps.push_back({"the warpgroup's barrier before its store", Kind::NamedBarrier, w});
  steps.push_back({"the fence after the barriers' initialisation", Kind::BarrierFence});
  steps.push_back({"the proxy fence before the store", Kind::ProxyFence});
  steps.push_back({"the fence before products", Kind::ProductFence});
  steps.push_back({"the wait for S", Kind::ProductWait, 1});
  steps.push_back({"the wait for O", Kind::ProductWait, 0});
  steps.push_back({"the wait until the result is read", Kind::StoreRead});
  for (const Starts& starts : {Starts{}, documents()}) {
    const Subject subject = forward(starts);
    for (const Step& step : steps) subject.must_need(step);
  }
}

namespace {

/** What adding dQ needs in whatever order. */
std::vector<Step> adding_steps() {
  std::vector<Step> steps;
  for (int w : {2, 3}) steps.push_back({"the barrier before dQ is added", Kind::NamedBarrier, w});
  for (int w : {4, 5}) steps.push_back({"the barrier before dQ is written again", Kind::NamedBarrier, w});
  steps.push_back({"the wait until the first half of dQ is read", Kind::StoreRead, 1});
  steps.push_back({"the waits until the other half, dK and dV are read", Kind::StoreRead, 0});
  steps.push_back({"the zeros that counters or sums begin with", Kind::Fill});
  return steps;
}

/** What the rest of the gradient's kernel needs. */
std::vector<Step> differentiating_steps() {
  auto steps = each_mbarrier({"queries 0 full", "queries 0 empty", "queries 1 full", "queries 1 empty", "dy 0 full",
                              "dy 0 empty", "dy 1 full", "dy 1 empty", "keys full"});
  for (int empty : {1, 3, 5, 7}) steps.push_back({"a release", Kind::MbarrierArrive, empty});
  steps.push_back({"the barrier before dS is read", Kind::NamedBarrier, 1});
  for (int w : {6, 7}) steps.push_back({"the warpgroup's barrier before its stores", Kind::NamedBarrier, w});
  steps.push_back({"the fence after the barriers' initialisation", Kind::BarrierFence});
  steps.push_back({"the proxy fences", Kind::ProxyFence});
  steps.push_back({"the fence before products", Kind::ProductFence});
  steps.push_back({"the wait for S and dQ", Kind::ProductWait, 1});
  steps.push_back({"the wait for dP and dK", Kind::ProductWait, 0});
  return steps;
}

}  // namespace

TEST("the gradient's kernels need each of their waits, fences, barriers and turns, with documents and without") {
  for (const Starts& starts : {Starts{}, documents()}) {
    const Subject subject = backward(starts);
    for (const Step& step : differentiating_steps()) subject.must_need(step);
    for (const Step& step : adding_steps()) subject.must_need(step);
    subject.must_need({"the wait until dQ is written, before the turn passes", Kind::StoreWritten});
    subject.must_need({"the turn", Kind::Turn});
  }
}

TEST("with dQ added in any order the gradient needs them all but the turns") {
  const Subject subject = backward({}, true), inside = backward(documents(), true);
  for (const Step& step : differentiating_steps()) subject.must_need(step);
  for (const Step& step : adding_steps()) subject.must_need(step), inside.must_need(step);
}

TEST("adding in any order no block waits for another: not when they run one by one, nor from the last to the first") {
  const Subject any = backward({}, true), turns = backward({});
  for (const unsigned resident : {1u, 5u})
    for (const bool last_block_first : {false, true}) {
      auto& device = cuda::simulated_device();
      const auto before = device;
      device.resident = resident;
      device.schedule.last_block_first = last_block_first;
      std::string found = any.wrong(), waits;
      try {
        turns.wrong();
      } catch (const Error& e) {
        waits = e.what();
      }
      device = before;
      CHECK(found.empty(), resident, " blocks at a time: ", found);
      const bool stuck = waits.find("wait for a turn among blocks") != std::string::npos;
      CHECK(stuck == (resident == 1 && last_block_first), "turns, ", resident, " blocks at a time: ", waits);
    }
}

TEST_MAIN()
