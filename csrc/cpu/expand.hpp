// Between weights, edge by edge, and rows of 32 cells, by the masks of a junction.
#pragma once

#include "masked.h"
#include "tiles.hpp"

namespace dnc::DNC_ISA {

// Walks from a right neuron's weights of one mask to those of the next. With `runs` a bit stands
// for a run of weights; else for one, and all of a neuron lie side by side.
template <bool runs>
struct Walk {
  uint32_t run;
  int64_t step;

  explicit Walk(const Masks& masks) : run(masks.run()), step(masks.step()) {}

  template <class T>
  DNC_INLINE void pass(uint32_t mask, T** at) const {
    *at += __builtin_popcount(mask) * (runs ? step : 1);
  }

  // Where the weights of `count` right neurons that a column of masks covers begin.
  template <class T>
  void start(const Masks& masks, T* weight, int64_t output, int64_t count, int64_t column,
             T** at) const {
    for (int64_t i = 0; i < count; i++) at[i] = weight + masks.first_weight(output + i);
    for (int64_t passed = 0; passed < column; passed++) {
      const uint32_t* mask = masks.column(passed) + output;
      for (int64_t i = 0; i < count; i++) pass(mask[i], at + i);
    }
  }

  // A neuron's next weights at their places among 32 cells, zeros elsewhere.
  DNC_INLINE __m512i expand(uint32_t mask, const BFloat16* at) const {
    if (!runs) return _mm512_maskz_expandloadu_epi16(mask, at);
    __m512i cells = _mm512_setzero_si512();
    for (; mask; mask &= mask - 1, at += step) {
      const int first = __builtin_ctz(mask);
      cells = _mm512_mask_loadu_epi16(cells, run << first, at - first);
    }
    return cells;
  }

  // The reverse: cells without an edge are dropped.
  DNC_INLINE void compress(__m512i cells, uint32_t mask, BFloat16* at) const {
    if (!runs) {
      const __mmask32 lanes = first_lanes(__builtin_popcount(mask));
      _mm512_mask_storeu_epi16(at, lanes, _mm512_maskz_compress_epi16(mask, cells));
      return;
    }
    for (; mask; mask &= mask - 1, at += step) {
      const int first = __builtin_ctz(mask);
      _mm512_mask_storeu_epi16(at - first, run << first, cells);
    }
  }
};

}  // namespace dnc::DNC_ISA
