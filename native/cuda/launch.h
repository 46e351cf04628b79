#pragma once
#include <tuple>
#include <type_traits>

#include "native/cuda/ptx/platform.h"
#include "native/cuda/runtime.h"

/** launch(stream, kernel, shape, arguments...): the one way a kernel is started. */
namespace thalweg::cuda {

#if defined(__CUDACC__)
/** arguments: pointers to the values of the kernel's parameters, in order. */
void launch_raw(Stream& stream, const void* kernel, const GridShape& shape, void** arguments);
#else
/** `body` calls the kernel for the current thread; the arguments are copies. */
void launch_body(Stream& stream, const GridShape& shape, std::function<void()> body);
#endif

template <class... Parameters, class... Arguments>
void launch(Stream& stream, void (*kernel)(Parameters...), const GridShape& shape, const Arguments&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "a kernel takes as many arguments as it has parameters");
  if (shape.blocks[0] == 0 || shape.blocks[1] == 0 || shape.blocks[2] == 0) return;
#if defined(__CUDACC__)
  std::tuple<std::remove_cv_t<Parameters>...> values{static_cast<std::remove_cv_t<Parameters>>(arguments)...};
  std::apply(
      [&](auto&... each) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&each))..., nullptr};
        launch_raw(stream, reinterpret_cast<const void*>(kernel), shape, pointers);
      },
      values);
#else
  const std::tuple<std::remove_cv_t<Parameters>...> values{static_cast<std::remove_cv_t<Parameters>>(arguments)...};
  launch_body(stream, shape, [kernel, values] { std::apply(kernel, values); });
#endif
}

inline bool is_aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace thalweg::cuda
