#include "denormals.h"

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dnc {
namespace {

// The bits of the floating-point control register that zero denormal results and operands.
#if defined(__x86_64__)
constexpr uint64_t kFlush = _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON;
uint64_t control() { return _mm_getcsr(); }
void set_control(uint64_t bits) { _mm_setcsr(static_cast<unsigned>(bits)); }
#elif defined(__aarch64__)
constexpr uint64_t kFlush = uint64_t{1} << 24;
uint64_t control() {
  uint64_t bits;
  asm volatile("mrs %0, fpcr" : "=r"(bits));
  return bits;
}
void set_control(uint64_t bits) { asm volatile("msr fpcr, %0" : : "r"(bits)); }
#else
constexpr uint64_t kFlush = 0;
uint64_t control() { return 0; }
void set_control(uint64_t) {}
#endif

}  // namespace

bool flush_denormals(bool flush, int threads) {
  const bool before = kFlush != 0 && (control() & kFlush) == kFlush;
#pragma omp parallel num_threads(threads)
  set_control(flush ? control() | kFlush : control() & ~kFlush);
  return before;
}

}  // namespace dnc
