// A debugging build, -DDNC_WATCHDOG: a wait that takes about two seconds notes who waits for what
// and gives up, and every later wait gives up at once, so that a kernel that would hang ends, with
// wrong numbers, and the process can ask who waited.
#pragma once

#include <cstdint>

#include "api.h"

// The first wait that gave up since the last call, or 0, after which there is none: bit 63 is set,
// the block stands from bit 40 on, its thread from bit 24 on, the mbarrier's address from bit 2 on,
// and bit 0 is the parity. Returns 0 or an error.
DNC_CUDA_API int dnc_stuck(uint64_t* wait);

namespace dnc::cuda {

constexpr long long kPatienceClocks = 4000000000;

namespace {
__device__ unsigned long long stuck = 0;
}

DNC_DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  const long long start = clock64();
  for (;;) {
    uint32_t done;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
    if (done) return;
    const bool others_gave_up = *static_cast<volatile unsigned long long*>(&stuck) != 0;
    if (others_gave_up || clock64() - start > kPatienceClocks) {
      const auto block = static_cast<unsigned long long>(blockIdx.x & 0xffff);
      const auto thread = static_cast<unsigned long long>(threadIdx.x);
      atomicCAS(&stuck, 0ull,
                1ull << 63 | block << 40 | thread << 24 | (barrier & 0x3ffff) << 2 | parity);
      return;
    }
  }
}

}  // namespace dnc::cuda

__attribute__((used)) inline int dnc_stuck(uint64_t* wait) {
  constexpr uint64_t kNone = 0;
  const cudaError_t error = cudaMemcpyFromSymbol(wait, dnc::cuda::stuck, sizeof *wait);
  return error != cudaSuccess ? error : cudaMemcpyToSymbol(dnc::cuda::stuck, &kNone, sizeof kNone);
}
