// What the kernels use of the hardware, each behind a name of one line. tests/cuda/emulator.hpp is
// the other implementation, in which g++ compiles the same kernels and runs each thread as a fiber.
#pragma once

#ifdef DNC_EMULATED
#include "emulator.hpp"
#else

#include <cuda_runtime.h>

#include <cstdint>

#define DNC_DEVICE __device__ __forceinline__

namespace dnc::cuda {

// The dynamic shared memory of a block.
DNC_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

template <class V>
DNC_DEVICE V shared_load(const void* from) {
  return *static_cast<const V*>(from);
}

template <class V>
DNC_DEVICE void shared_store(void* to, V value) {
  *static_cast<V*>(to) = value;
}

// Copy 16 aligned bytes to shared memory; they are there after copies_wait() and a barrier.
DNC_DEVICE void copy_async(void* shared, const void* global) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint32_t(__cvta_generic_to_shared(shared))),
      "l"(global)
      : "memory");
}

DNC_DEVICE void copies_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A value that is the same in all lanes, which the compiler learns from this.
DNC_DEVICE int uniform(int value) { return __shfl_sync(0xffffffffu, value, 0); }

DNC_DEVICE float shuffle_xor(float value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}

DNC_DEVICE float half_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

DNC_DEVICE uint16_t float_to_half(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

DNC_DEVICE uint16_t float_to_bfloat16(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// Start a kernel on a stream, blocks in clusters; the error it could not start with, or
// cudaSuccess.
template <class... Parameters, class... Arguments>
cudaError_t launch_clusters(void (*kernel)(Parameters...), int cluster, int64_t blocks, int threads,
                            int64_t shared_bytes, cudaStream_t stream, Arguments... arguments) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  // more than 48 KiB must be asked for
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute dimension{};
  dimension.id = cudaLaunchAttributeClusterDimension;
  dimension.val.clusterDim = {unsigned(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = size_t(shared_bytes);
  config.stream = stream;
  config.attrs = &dimension;
  config.numAttrs = cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int64_t shared_bytes,
                   cudaStream_t stream, Arguments... arguments) {
  return launch_clusters(kernel, 1, blocks, threads, shared_bytes, stream, arguments...);
}

}  // namespace dnc::cuda

#endif
