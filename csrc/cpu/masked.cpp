#include "masked.h"

#include <algorithm>

#ifdef DNC_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dnc {

Masks::Masks(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block)
    : rows_(edges.rows),
      slots_(edges.slots),
      size_(edges.size()),
      inputs_(columns * column_block),
      row_block_(row_block),
      column_block_(column_block),
      masks_(size_t(mask_columns() * mask_rows())) {
  // a run needs the bit of its first neuron only
  const int64_t bits = by_runs() ? 1 : column_block;
  if (edges.compact()) starts_.assign(edges.starts, edges.starts + rows_);
  for (int64_t row = 0; row < rows_; row++) {
    for (int64_t at = edges.first(row); at < edges.last(row); at++) {
      if (edges.sources[at] < 0) {
        empty_slots_ = true;
        continue;
      }
      for (int64_t bit = 0; bit < bits; bit++) {
        const int64_t input = edges.sources[at] * column_block + bit;
        uint32_t* masks = masks_.data() + input / kMaskColumns * mask_rows();
        for (int64_t r = 0; r < row_block; r++) {
          masks[row * row_block + r] |= 1u << input % kMaskColumns;
        }
      }
    }
  }
}

int64_t Masks::first_weight(int64_t output) const {
  output = std::min(output, outputs() - 1);
  const int64_t row = output / row_block_, neuron = output % row_block_;
  const int64_t first = starts_.empty() ? row * slots_ : starts_[size_t(row)];
  return (first * row_block_ + neuron) * column_block_;
}

#ifdef DNC_AMX

namespace amx {
extern const MaskedKernels kernels;
}

const MaskedKernels* amx_kernels() { return &amx::kernels; }

const char* amx_unavailable() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) {
    return "this processor lacks AMX for bfloat16";
  }
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vbmi2") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw")) {
    return "this processor lacks AVX-512 (BW, VL, BF16, VBMI2)";
  }
  // the numbers of Linux for a process that wants the state of AMX tiles to be kept
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted ? nullptr : "the system does not grant AMX tiles to this process";
}

#else

const MaskedKernels* amx_kernels() { return nullptr; }

const char* amx_unavailable() {
  return "the kernels for AMX were not compiled: they need Linux on x86-64 and GCC 12 or later";
}

#endif

#if defined(__x86_64__)

namespace vbmi2 {
extern const MaskedMoves moves;
}

const MaskedMoves* vbmi2_moves() { return &vbmi2::moves; }

const char* vbmi2_unavailable() {
  const bool has = __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("popcnt");
  return has ? nullptr : "this processor lacks AVX-512 (BW, VL, VBMI2)";
}

#else

const MaskedMoves* vbmi2_moves() { return nullptr; }
const char* vbmi2_unavailable() { return "AVX-512 is for x86-64"; }

#endif

}  // namespace dnc
