// The instruction sets the loops were compiled for, best first.
#include "kernels.h"

namespace dnc::hw {

namespace baseline {
extern const Kernels<int32_t> narrow;
extern const Kernels<int64_t> wide;
}  // namespace baseline

namespace {
bool always() { return true; }
}  // namespace

#if defined(__x86_64__)
namespace avx2 {
extern const Kernels<int32_t> narrow;
extern const Kernels<int64_t> wide;
}  // namespace avx2

namespace {
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
}  // namespace

// AVX-512 was no faster: gathers and 32-bit products bound the loops
const InstructionSet kInstructionSets[] = {
    {"avx2", &avx2::narrow, &avx2::wide, has_avx2},
    {"baseline", &baseline::narrow, &baseline::wide, always}};
#else
const InstructionSet kInstructionSets[] = {
    {"baseline", &baseline::narrow, &baseline::wide, always}};
#endif

const int kInstructionSetCount = sizeof kInstructionSets / sizeof kInstructionSets[0];

}  // namespace dnc::hw
