// Reading numbers at 16-bit indices, a vector of them at a time.
//
// | where the numbers are       | instruction set | by                                        |
// |-----------------------------|-----------------|-------------------------------------------|
// | in memory                   | AVX-512, AVX2   | a gather                                  |
// | 32 of them in two registers | AVX-512         | a permutation, which merges into a vector |
#pragma once

#include <immintrin.h>

#include "simd.hpp"

namespace dnc::DNC_ISA {

// As many 16-bit indices as T has lanes, widened to 32 bits.
template <class T>
DNC_INLINE auto load_indices(const uint16_t* index) {
  using Narrow = typename VectorOf<uint16_t, lanes<T>>::unaligned;
  using Wide = typename VectorOf<int32_t, lanes<T>>::type;
  return __builtin_convertvector(*reinterpret_cast<const Narrow*>(index), Wide);
}

// Gathers are the masked ones: GCC 12 warns of an uninitialised register in its others.
#if DNC_VECTOR_BYTES == 64

DNC_INLINE Vec<float> lookup(const float* table, const uint16_t* index) {
  const __m512i at = (__m512i)load_indices<float>(index);
  return (Vec<float>)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, at, table, 4);
}
DNC_INLINE Vec<double> lookup(const double* table, const uint16_t* index) {
  const __m256i at = (__m256i)load_indices<double>(index);
  return (Vec<double>)_mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, at, table, 8);
}

// The lanes of a mask; nothing is read for the others, which become zero.
DNC_INLINE __m512i load_lanes(const uint16_t* p, __mmask16 mask) {
  return _mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, p));
}
DNC_INLINE __m512 load_lanes(const float* p, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, p);
}
DNC_INLINE __m512 load_lanes(const BFloat16* p, __mmask16 mask) {
  return (__m512)((Word::type)load_lanes(&p->bits, mask) << 16);
}

// Indices turn into numbers: those of the lanes in `mask` into table[index modulo 32].
DNC_INLINE __m512i replace_by_lookup(__m512i index, __mmask16 mask, __m512 low, __m512 high) {
  return (__m512i)_mm512_mask2_permutex2var_ps(low, index, mask, high);
}

#else

DNC_INLINE Vec<float> lookup(const float* table, const uint16_t* index) {
  const __m256i at = (__m256i)load_indices<float>(index);
  const __m256 all = (__m256)_mm256_set1_epi32(-1);
  return (Vec<float>)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), table, at, all, 4);
}
DNC_INLINE Vec<double> lookup(const double* table, const uint16_t* index) {
  const __m128i at = (__m128i)load_indices<double>(index);
  const __m256d all = (__m256d)_mm256_set1_epi32(-1);
  return (Vec<double>)_mm256_mask_i32gather_pd(_mm256_setzero_pd(), table, at, all, 8);
}

#endif

}  // namespace dnc::DNC_ISA
