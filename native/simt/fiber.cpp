#include "native/simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "native/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define THALWEG_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define THALWEG_ASAN 1
#endif
#endif
#ifdef THALWEG_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace thalweg::simt {

void fiber_entry(Fiber* self) { Fiber::trampoline(self); }

#if defined(__x86_64__)
// Saves what the ABI asks a function to keep, changes the stack, restores. A new fiber's stack is made to look as if it
// had been left here, with its address in rbx and the return address of `thalweg_fiber_begin`.
extern "C" void thalweg_fiber_switch(void** save, void* load);
extern "C" void thalweg_fiber_begin();
extern "C" void thalweg_fiber_call(Fiber* self) { fiber_entry(self); }
asm(R"(
.text
.globl thalweg_fiber_switch
.hidden thalweg_fiber_switch
.type thalweg_fiber_switch, @function
thalweg_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size thalweg_fiber_switch, .-thalweg_fiber_switch
.globl thalweg_fiber_begin
.hidden thalweg_fiber_begin
.type thalweg_fiber_begin, @function
thalweg_fiber_begin:
  .cfi_startproc
  .cfi_undefined rip
  movq %rbx, %rdi
  call thalweg_fiber_call@PLT
  ud2
  .cfi_endproc
.size thalweg_fiber_begin, .-thalweg_fiber_begin
)");
#endif

#if !defined(__x86_64__)
void* Fiber::storage() {
  storage_.resize(sizeof(ucontext_t));
  return storage_.data();
}
#endif

void Fiber::start(std::byte* stack, size_t bytes, void (*entry)(void*), void* argument) {
  stack_ = stack;
  bytes_ = bytes;
  entry_ = entry;
  argument_ = argument;
  fake_ = nullptr;
#ifdef THALWEG_ASAN
  __asan_unpoison_memory_region(stack, bytes);  // a fiber given up in the middle leaves its frames' red zones behind
#endif
#if defined(__x86_64__)
  auto* top = reinterpret_cast<uint64_t*>(stack + bytes);
  *--top = 0;
  *--top = 0;  // the stack is 16-byte aligned where thalweg_fiber_begin starts, as at any call
  *--top = reinterpret_cast<uint64_t>(&thalweg_fiber_begin);
  *--top = 0;                                 // rbp
  *--top = reinterpret_cast<uint64_t>(this);  // rbx
  for (int i = 0; i < 4; i++) *--top = 0;     // r12 to r15
  context_ = top;
#else
  auto* context = static_cast<ucontext_t*>(storage());
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = bytes;
  context->uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(context, reinterpret_cast<void (*)()>(+[](unsigned low, unsigned high) {
                fiber_entry(reinterpret_cast<Fiber*>(static_cast<uintptr_t>(low) |
                                                     static_cast<uintptr_t>(static_cast<uint64_t>(high) << 32)));
              }),
              2, static_cast<unsigned>(self), static_cast<unsigned>(static_cast<uint64_t>(self) >> 32));
#endif
}

void Fiber::trampoline(Fiber* self) {
  self->arrived();
  self->entry_(self->argument_);
  std::abort();  // entry never returns
}

void Fiber::arrived() {
#ifdef THALWEG_ASAN
  __sanitizer_finish_switch_fiber(fake_, nullptr, nullptr);
#endif
}

void Fiber::swap(Fiber& from, Fiber& to) {
#ifdef THALWEG_ASAN
  if (from.stack_ == nullptr) {  // the thread itself: ask where its stack lies
    pthread_attr_t attributes;
    void* low = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &from.bytes_);
    pthread_attr_destroy(&attributes);
    from.stack_ = static_cast<std::byte*>(low);
  }
  __sanitizer_start_switch_fiber(&from.fake_, to.stack_, to.bytes_);
#endif
#if defined(__x86_64__)
  thalweg_fiber_switch(&from.context_, to.context_);
#else
  swapcontext(static_cast<ucontext_t*>(from.storage()), static_cast<ucontext_t*>(to.storage()));
#endif
  from.arrived();
}

StackPool::~StackPool() {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (std::byte* stack : stacks_) munmap(stack - page, kBytes + page);
}

std::byte* StackPool::at(size_t index) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  while (stacks_.size() <= index) {
    void* memory =
        mmap(nullptr, kBytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("OUT_OF_MEMORY", "no memory for the stack of simulated thread ", index);
    mprotect(memory, page, PROT_NONE);
    stacks_.push_back(static_cast<std::byte*>(memory) + page);
  }
  return stacks_[index];
}

}  // namespace thalweg::simt
