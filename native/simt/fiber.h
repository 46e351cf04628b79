#pragma once
#include <cstddef>
#include <vector>

namespace thalweg::simt {

/** One side of a context switch: a stack of its own, or the thread that runs the others. */
class Fiber {
 public:
  /** Makes the next switch to this fiber call entry(argument) on `stack`; entry never returns. */
  void start(std::byte* stack, size_t bytes, void (*entry)(void*), void* argument);
  /** Leaves `from` here and goes on where `to` was left. */
  static void swap(Fiber& from, Fiber& to);
  /** What entry calls first: tells the sanitizers that the switch arrived. */
  void arrived();

 private:
  void* context_ = nullptr;
  std::byte* stack_ = nullptr;
  size_t bytes_ = 0;
  void* fake_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;

#if !defined(__x86_64__)
  std::vector<std::byte> storage_;  // a ucontext_t
  void* storage();
#endif

  static void trampoline(Fiber* self);
  friend void fiber_entry(Fiber* self);
};

/** Stacks, each with a guard page below it, kept for the next launch. */
class StackPool {
 public:
  static constexpr size_t kBytes = size_t{128} << 10;
  ~StackPool();
  std::byte* at(size_t index);

 private:
  std::vector<std::byte*> stacks_;
};

}  // namespace thalweg::simt
