// How samples stand in packed tiles, and how one vector of them is multiplied.
//
// | storage       | cells of a tile | one vector of cells feeds      | by                       |
// |---------------|-----------------|--------------------------------|--------------------------|
// | float, double | the same        | one vector of sums             | multiply-add             |
// | bfloat16      | bfloat16        | two: even and odd cells        | widening, multiply-add   |
// | bfloat16      | bfloat16        | two, merged with another input | dot products of pairs    |
//
// An operand is made of `depth` inputs and feeds `parts` vectors of sums. Cell `position` of a
// vector holds sample `sample_at(position)`, so that the sums come out in order.
#pragma once

#include "simd.hpp"

#ifdef DNC_BFLOAT16_DOT
#include <immintrin.h>
#endif

namespace dnc::DNC_ISA {

template <class S>
struct Cells {
  using Sum = typename Accumulator<S>::type;
  using Cell = Sum;
  using Weight = Sum;
  using Operand = Vec<Sum>;
  using Factor = Vec<Sum>;
  static constexpr int parts = 1, depth = 1;

  static constexpr int sample_at(int position) { return position; }
  static DNC_INLINE void operand(const Cell* x, const Cell*, bool, Operand* result) {
    *result = load(x);
  }
  static DNC_INLINE Factor factor(const Weight* w, bool) { return broadcast(*w); }
  static DNC_INLINE Vec<Sum> multiply(Factor w, Operand x, Vec<Sum> sum) { return sum + w * x; }
  // the same samples of two neurons: the sum of their products, in any lane
  static DNC_INLINE Vec<Sum> dot(const Cell* a, const Cell* b, Vec<Sum> sum) {
    return sum + load(a) * load(b);
  }
};

#ifdef DNC_BFLOAT16_DOT

template <>
struct Cells<BFloat16> {
  using Sum = float;
  using Cell = BFloat16;
  using Weight = BFloat16;
  using Operand = __m512bh;
  using Factor = __m512bh;
  static constexpr int parts = 2, depth = 2;

  // the order in which merging the cells of two inputs leaves the samples
  static constexpr int sample_at(int position) {
    return position / 8 * 4 + position % 4 + position % 8 / 4 * lanes<float>;
  }
  static DNC_INLINE void operand(const Cell* x, const Cell* next, bool pair, Operand* result) {
    const __m512i a = _mm512_loadu_si512(x);
    const __m512i b = (pair ? _mm512_loadu_si512(next) : _mm512_setzero_si512());
    result[0] = (__m512bh)_mm512_unpacklo_epi16(a, b);
    result[1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
  }
  static DNC_INLINE Factor factor(const Weight* w, bool pair) {
    uint32_t bits = w->bits;
    if (pair) std::memcpy(&bits, w, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(int(bits));
  }
  static DNC_INLINE Vec<float> multiply(Factor w, Operand x, Vec<float> sum) {
    return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, x, w);
  }
  static DNC_INLINE Vec<float> dot(const Cell* a, const Cell* b, Vec<float> sum) {
    return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(a),
                                        (__m512bh)_mm512_loadu_si512(b));
  }
};

#elif DNC_VECTOR_BYTES > 0

template <>
struct Cells<BFloat16> {
  using Sum = float;
  using Cell = BFloat16;
  using Weight = float;
  using Operand = Vec<float>;
  using Factor = Vec<float>;
  static constexpr int parts = 2, depth = 1;

  static constexpr int sample_at(int position) {
    return position / 2 + position % 2 * lanes<float>;
  }
  static DNC_INLINE void operand(const Cell* x, const Cell*, bool, Operand* result) {
    const Word::type words = load_words(x);
    result[0] = (Vec<float>)(words << 16);
    result[1] = (Vec<float>)(words & 0xffff0000u);
  }
  static DNC_INLINE Factor factor(const Weight* w, bool) { return broadcast(*w); }
  static DNC_INLINE Vec<float> multiply(Factor w, Operand x, Vec<float> sum) { return sum + w * x; }
  static DNC_INLINE Vec<float> dot(const Cell* a, const Cell* b, Vec<float> sum) {
    Operand left[parts], right[parts];
    operand(a, a, false, left);
    operand(b, b, false, right);
    return sum + left[0] * right[0] + left[1] * right[1];
  }
};

#endif

}  // namespace dnc::DNC_ISA
