// CUDA kernels on a CPU, for tests: g++ compiles the sources of csrc/cuda with DNC_EMULATED and
// this header in place of the hardware. Clusters of blocks run one after another; each thread of a
// cluster is a fiber that runs until it has to wait. What a GPU would do silently is an error here,
// with its text in dnc_cuda_error_text: threads that wait for ever, shared memory read or written
// out of range or misaligned, copies nobody waited for. Shared memory starts as NaN. Bank conflicts
// are counted.
#pragma once

#include "fibers.hpp"

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
#define __syncthreads emulator::sync_threads

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor
};
using cudaStream_t = void*;

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int values[] = {emulator::kCapability / 10, emulator::kCapability % 10,
                        emulator::kMultiprocessors, emulator::kSharedPerMultiprocessor};
  *value = values[attribute];
  return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure) return emulator::error.c_str();
  return error == cudaSuccess ? "no error" : "invalid argument or configuration";
}

namespace dnc::cuda {

inline unsigned char* shared_memory() { return emulator::block().shared; }

template <class V>
V shared_load(const void* from) {
  emulator::check_shared(from, sizeof(V), alignof(V));
  return *static_cast<const V*>(from);
}

template <class V>
void shared_store(void* to, V value) {
  emulator::check_shared(to, sizeof(V), alignof(V));
  *static_cast<V*>(to) = value;
}

inline void copy_async(void* shared, const void* global) {
  emulator::check_shared(shared, 16, 16);
  if (reinterpret_cast<uintptr_t>(global) % 16) emulator::fail("copies from a misaligned address");
  emulator::running->copies.push_back({shared, global, 16});
}

inline void copies_wait() {
  auto& copies = emulator::running->copies;
  for (const emulator::Copy& copy : copies) memcpy(copy.to, copy.from, copy.bytes);
  copies.clear();
}

inline int uniform(int value) { return value; }

// Two rounds of slots, so that nobody overwrites what a slower lane has yet to read.
inline float shuffle_xor(float value, int lanes) {
  using namespace emulator;
  const unsigned lane = thread_index.x % kLanes, warp = thread_index.x / kLanes;
  float* slots = &block().exchanged[warp][running->shuffles++ % 2 * kLanes];
  slots[lane] = value;
  arrive_and_wait(block().warps[warp]);
  return slots[lane ^ unsigned(lanes)];
}

inline float half_to_float(uint16_t bits) {
  _Float16 half;
  memcpy(&half, &bits, sizeof half);
  return float(half);
}

inline uint16_t float_to_half(float value) {
  const _Float16 half = _Float16(value);
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

inline uint16_t float_to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0x7fff;
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class... Parameters, class... Arguments>
cudaError_t launch_clusters(void (*kernel)(Parameters...), int cluster, int64_t blocks, int threads,
                            int64_t shared_bytes, cudaStream_t, Arguments... arguments) {
  using namespace emulator;
  if (threads % kLanes || shared_bytes > kSharedPerBlock || cluster < 1 || blocks % cluster) {
    return cudaErrorInvalidConfiguration;
  }
  error.clear();
  launches++;
  body = [=] { kernel(Parameters(arguments)...); };
  has_launch_bound = reinterpret_cast<uintptr_t>(kernel) % kLaunchBoundMark == 0;
  block_size.x = unsigned(threads);
  grid_size.x = unsigned(blocks);
  emulator::cluster.resize(size_t(cluster));
  for (int64_t i = 0; i < blocks && error.empty(); i += cluster) {
    run_cluster(unsigned(i), size_t(threads), size_t(shared_bytes));
  }
  return error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int64_t shared_bytes,
                   cudaStream_t stream, Arguments... arguments) {
  return launch_clusters(kernel, 1, blocks, threads, shared_bytes, stream, arguments...);
}

}  // namespace dnc::cuda
