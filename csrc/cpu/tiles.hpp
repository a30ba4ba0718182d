// Products of AMX tiles, and how matrices are laid out in them.
//
// | name   | meaning                                                          | bytes    |
// |--------|------------------------------------------------------------------|----------|
// | tile   | 16 rows of 64 bytes                                              | 1024     |
// | A tile | 16 rows of 32 numbers                                            | 1024     |
// | B tile | 16 rows of 16 pairs: numbers 2 i and 2 i + 1 of each column      | 1024     |
// | C tile | 16 x 16 sums in float                                            | 1024     |
// | step   | 32 numbers that are multiplied and added up                      |          |
// | panel  | one or two tiles wide, all steps long: [steps][width] tiles      |          |
#pragma once

#include <immintrin.h>

#include "pack.hpp"

namespace dnc::DNC_ISA {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTile = 1024 / sizeof(BFloat16);
constexpr int64_t kStep = 32;
constexpr int64_t kPanel = 32;

// The tile registers of a thread, in use as long as this lives.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// Sums of 2 x 2 tiles, or fewer, at the start.
struct alignas(64) Sums {
  float tile[2][2][kTileRows][kTileRows];
};

// sums.tile[p][q] = or, if it goes on, += the product of tile p of panel a and tile q of panel b.
// What is read from L2 is not to push the other out of L1.
template <int P, int Q, bool streams_a>
void multiply_panels(const BFloat16* a, const BFloat16* b, int64_t steps, bool goes_on,
                     Sums& sums) {
  if (goes_on) {
    _tile_loadd(0, sums.tile[0][0], 64);
    if (Q > 1) _tile_loadd(1, sums.tile[0][1], 64);
    if (P > 1) _tile_loadd(2, sums.tile[1][0], 64);
    if (P > 1 && Q > 1) _tile_loadd(3, sums.tile[1][1], 64);
  } else {
    _tile_zero(0);
    if (Q > 1) _tile_zero(1);
    if (P > 1) _tile_zero(2);
    if (P > 1 && Q > 1) _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; step++, a += P * kTile, b += Q * kTile) {
    // the intrinsics are macros that take nothing but literal numbers of registers
    if (streams_a) {
      _tile_stream_loadd(4, a, 64);
      if (P > 1) _tile_stream_loadd(5, a + kTile, 64);
      _tile_loadd(6, b, 64);
      if (Q > 1) _tile_loadd(7, b + kTile, 64);
    } else {
      _tile_loadd(4, a, 64);
      if (P > 1) _tile_loadd(5, a + kTile, 64);
      _tile_stream_loadd(6, b, 64);
      if (Q > 1) _tile_stream_loadd(7, b + kTile, 64);
    }
    _tile_dpbf16ps(0, 4, 6);
    if (Q > 1) _tile_dpbf16ps(1, 4, 7);
    if (P > 1) _tile_dpbf16ps(2, 5, 6);
    if (P > 1 && Q > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums.tile[0][0], 64);
  if (Q > 1) _tile_stored(1, sums.tile[0][1], 64);
  if (P > 1) _tile_stored(2, sums.tile[1][0], 64);
  if (P > 1 && Q > 1) _tile_stored(3, sums.tile[1][1], 64);
}

// The same of panels that stay in L1, two tiles wide, and streamed ones of a width known when it
// runs.
template <bool streams_a>
void multiply_streamed(const BFloat16* kept, const BFloat16* streamed, int64_t width, int64_t steps,
                       bool goes_on, Sums& sums) {
  if constexpr (streams_a) {
    width > 1 ? multiply_panels<2, 2, true>(streamed, kept, steps, goes_on, sums)
              : multiply_panels<1, 2, true>(streamed, kept, steps, goes_on, sums);
  } else {
    width > 1 ? multiply_panels<2, 2, false>(kept, streamed, steps, goes_on, sums)
              : multiply_panels<2, 1, false>(kept, streamed, steps, goes_on, sums);
  }
}

// The first `count` of 32 lanes.
DNC_INLINE __mmask32 first_lanes(int64_t count) { return count < 32 ? (1u << count) - 1 : ~0u; }

// 32 sums, rounded.
DNC_INLINE __m512i rounded(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// 0, 16, 1, 17... of 32 cells.
DNC_INLINE __m512i zipped(__m512i cells) {
  const __m512i low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i order = _mm512_or_si512(low, _mm512_slli_epi32(low, 16));
  // the masked one, as GCC 12 warns of an uninitialised register in the other
  return _mm512_maskz_permutexvar_epi16(~0u, _mm512_or_si512(order, _mm512_set1_epi32(16 << 16)),
                                        cells);
}

// Cells in groups of four: 0, 4, 1, 5...
DNC_INLINE __m512i in_order(__m512i cells) {
  return _mm512_maskz_permutexvar_epi64(0xff, _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), cells);
}

// 16 rows of 16 cells of 32 bits, turned.
DNC_INLINE void turn(__m512i* rows) {
  Vec<float> square[kTileRows];
  DNC_UNROLL for (int i = 0; i < kTileRows; i++) square[i] = (Vec<float>)rows[i];
  transpose<float>(square);
  DNC_UNROLL for (int i = 0; i < kTileRows; i++) rows[i] = (__m512i)square[i];
}

}  // namespace dnc::DNC_ISA
