#include <chrono>
#include <cstring>

#include "native/emulator/fault.h"
#include "native/emulator/runtime.h"

// The handles of the API are pointers to structs that it only declares; these are ours.
struct CUstream_st : thalweg::emulator::StreamQueue {};
struct CUevent_st {
  bool recorded = false, happened = false;
  std::chrono::steady_clock::time_point when;
};
struct CUgraph_st {
  std::vector<thalweg::emulator::Work> work;
};
struct CUgraphExec_st {
  std::vector<thalweg::emulator::Work> work;
};

namespace thalweg::emulator {

namespace {

bool is_pinned(const void* pointer) {
  for (const auto& [start, bytes] : runtime().pinned) {
    const auto* first = static_cast<const std::byte*>(start);
    if (pointer >= first && pointer < first + bytes) return true;
  }
  return false;
}

}  // namespace

void drain(StreamQueue& stream) {
  while (!stream.work.empty()) {
    Work next = std::move(stream.work.front());
    stream.work.pop_front();
    next.act();
  }
}

void drain_all() {
  for (auto& stream : runtime().streams) drain(*stream);
}

void enqueue(cudaStream_t stream, Work work) {
  if (stream == nullptr) fault(work.what, " on the default stream: the emulator has none");
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    stream->work.push_back(std::move(work));
}

}  // namespace thalweg::emulator

using namespace thalweg::emulator;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  return guarded([&] {
    auto made = std::make_unique<CUstream_st>();
    *stream = made.get();
    runtime().streams.push_back(std::move(made));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t status = guarded([&] {
    drain(*stream);
    return cudaSuccess;
  });
  const std::lock_guard lock(runtime().mutex);
  std::erase_if(runtime().streams, [&](const auto& each) { return each.get() == stream; });
  return status;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return guarded([&] {
    if (stream->capturing) return cudaErrorStreamCaptureUnsupported;
    drain(*stream);
    return cudaSuccess;
  });
}

/** Pageable memory is read at once and written before the call returns; pinned memory when the stream comes to it. */
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return guarded([&] {
    if (bytes == 0) return cudaSuccess;
    const bool upload = kind == cudaMemcpyHostToDevice, download = kind == cudaMemcpyDeviceToHost;
    if (!upload && !download && kind != cudaMemcpyDeviceToDevice) return cudaErrorInvalidValue;
    if (!upload) check_device(from, bytes, "copying from the device");
    if (!download) check_device(to, bytes, "copying to the device");
    if (upload && !stream->capturing && !is_pinned(from)) {
      const auto* first = static_cast<const std::byte*>(from);
      enqueue(stream, {"copy", [to, staged = std::vector<std::byte>(first, first + bytes)] {
                         std::memcpy(to, staged.data(), staged.size());
                       }});
      return cudaSuccess;
    }
    enqueue(stream, {"copy", [=] { std::memcpy(to, from, bytes); }});
    if (download && !is_pinned(to)) {
      if (stream->capturing) return cudaErrorStreamCaptureUnsupported;
      drain(*stream);
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return guarded([&] {
    if (bytes == 0) return cudaSuccess;
    check_device(to, bytes, "filling device memory");
    enqueue(stream, {"fill", [=] { std::memset(to, value, bytes); }});
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t status = guarded([] {
    drain_all();
    return cudaSuccess;
  });
  delete event;
  return status;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return guarded([&] {
    event->recorded = true;
    event->happened = false;
    enqueue(stream, {"event", [event] {
                       event->happened = true;
                       event->when = std::chrono::steady_clock::now();
                     }});
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return guarded([&] {
    if (!start->recorded || !end->recorded) return cudaErrorInvalidResourceHandle;
    if (!start->happened || !end->happened) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return guarded([&] {
    if (stream->capturing) return cudaErrorStreamCaptureUnsupported;
    stream->capturing = true;
    stream->captured.clear();
    return cudaSuccess;
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return guarded([&] {
    if (!stream->capturing) return cudaErrorInvalidValue;
    stream->capturing = false;
    *graph = new CUgraph_st{std::move(stream->captured)};
    return cudaSuccess;
  });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const cudaError_t status = guarded([] {
    drain_all();
    return cudaSuccess;
  });
  delete executable;
  return status;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return guarded([&] {
    enqueue(stream, {"graph", [executable] {
                       for (const Work& each : executable->work) each.act();
                     }});
    return cudaSuccess;
  });
}

}  // extern "C"
