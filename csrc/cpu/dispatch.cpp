// The instruction sets that were compiled, best first, and whether this processor has them.
#include "kernels.h"

namespace dnc {

namespace scalar {
extern const Kernels kernels;
}

namespace {
const char* always() { return nullptr; }
}  // namespace

#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}

namespace {
const char* no_avx2() {
  const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has ? nullptr : "this processor lacks AVX2 or FMA";
}
const char* no_avx512() {
  const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has ? nullptr : "this processor lacks AVX-512 (F, BW, DQ, VL)";
}
const char* no_avx512_bf16() {
  if (const char* reason = no_avx512()) return reason;
  return __builtin_cpu_supports("avx512bf16") ? nullptr : "this processor lacks AVX-512 BF16";
}
}  // namespace

const InstructionSet kInstructionSets[] = {{&avx512_bf16::kernels, no_avx512_bf16},
                                           {&avx512::kernels, no_avx512},
                                           {&avx2::kernels, no_avx2},
                                           {&scalar::kernels, always}};
#elif defined(__aarch64__)
namespace neon {
extern const Kernels kernels;
}

// NEON is part of every 64-bit ARM processor
const InstructionSet kInstructionSets[] = {{&neon::kernels, always}, {&scalar::kernels, always}};
#else
const InstructionSet kInstructionSets[] = {{&scalar::kernels, always}};
#endif

const int kInstructionSetCount = sizeof kInstructionSets / sizeof kInstructionSets[0];

}  // namespace dnc
