// Weights into a dense matrix and back by masks: 32 numbers at a time, where a loop over the edges
// moves one.
#include <immintrin.h>

#include <algorithm>

#include "masked.h"

namespace dnc::DNC_ISA {

namespace {

// Right neurons whose masks are in one line of a cache.
constexpr int64_t kRows = 16;

// 32 numbers of 2 or 4 bytes, of which the first ones, up to a limit, are in memory.
struct Words {
  using Number = uint16_t;
  static void expand(uint32_t mask, const Number* from, uint32_t limit, Number* to) {
    _mm512_mask_storeu_epi16(to, limit, _mm512_maskz_expandloadu_epi16(mask, from));
  }
  static void compress(uint32_t mask, Number* to, uint32_t limit, const Number* from) {
    const __mmask32 lanes = (uint64_t(1) << __builtin_popcount(mask)) - 1;
    const __m512i cells = _mm512_maskz_loadu_epi16(limit, from);
    _mm512_mask_storeu_epi16(to, lanes, _mm512_maskz_compress_epi16(mask, cells));
  }
};

struct Doublewords {
  using Number = uint32_t;
  static void expand(uint32_t mask, const Number* from, uint32_t limit, Number* to) {
    const __mmask16 low = mask & 0xffff, high = mask >> 16;
    _mm512_mask_storeu_epi32(to, limit & 0xffff, _mm512_maskz_expandloadu_epi32(low, from));
    from += __builtin_popcount(low);
    _mm512_mask_storeu_epi32(to + 16, limit >> 16, _mm512_maskz_expandloadu_epi32(high, from));
  }
  static void compress(uint32_t mask, Number* to, uint32_t limit, const Number* from) {
    half(mask & 0xffff, from, limit & 0xffff, to);
    half(mask >> 16, from + 16, limit >> 16, to + __builtin_popcount(mask & 0xffff));
  }

 private:
  static void half(__mmask16 mask, const Number* from, __mmask16 limit, Number* to) {
    const __mmask16 lanes = (1u << __builtin_popcount(mask)) - 1;
    const __m512i cells = _mm512_maskz_loadu_epi32(limit, from);
    _mm512_mask_storeu_epi32(to, lanes, _mm512_maskz_compress_epi32(mask, cells));
  }
};

// move(mask, the neuron's next weights, limit, their place in the dense matrix)
template <class Weight, class Dense, class Move>
void each_mask(const Masks& masks, Weight* weight, Dense* dense, int threads, Move move) {
  const int64_t rows = masks.outputs(), columns = masks.inputs();
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t count = std::min(kRows, rows - first);
    Weight* at[kRows];
    for (int64_t i = 0; i < count; i++) at[i] = weight + masks.first_weight(first + i);
    for (int64_t column = 0; column < masks.mask_columns(); column++) {
      const int64_t left = columns - column * kMaskColumns;
      const uint32_t limit = left < kMaskColumns ? (1u << left) - 1 : ~0u;
      const uint32_t* mask = masks.column(column) + first;
      Dense* place = dense + first * columns + column * kMaskColumns;
      for (int64_t i = 0; i < count; i++, place += columns) {
        move(mask[i], at[i], limit, place);
        at[i] += __builtin_popcount(mask[i]);
      }
    }
  }
}

template <class Width>
void scatter_numbers(const Masks& masks, const void* weight, void* dense, int threads) {
  using Number = typename Width::Number;
  each_mask(masks, static_cast<const Number*>(weight), static_cast<Number*>(dense), threads,
            Width::expand);
}

template <class Width>
void gather_numbers(const Masks& masks, const void* dense, void* weight, int threads) {
  using Number = typename Width::Number;
  each_mask(masks, static_cast<Number*>(weight), static_cast<const Number*>(dense), threads,
            Width::compress);
}

void scatter(const Masks& masks, const void* weight, void* dense, int64_t item_bytes, int threads) {
  item_bytes == 2 ? scatter_numbers<Words>(masks, weight, dense, threads)
                  : scatter_numbers<Doublewords>(masks, weight, dense, threads);
}

void gather(const Masks& masks, const void* dense, void* weight, int64_t item_bytes, int threads) {
  item_bytes == 2 ? gather_numbers<Words>(masks, dense, weight, threads)
                  : gather_numbers<Doublewords>(masks, dense, weight, threads);
}

}  // namespace

extern const MaskedMoves moves;
const MaskedMoves moves = {scatter, gather};

}  // namespace dnc::DNC_ISA
