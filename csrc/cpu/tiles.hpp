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

// c[p][q] = the product of tile p of panel a and tile q of panel b.
template <int P, int Q>
void multiply_panels(const BFloat16* a, const BFloat16* b, int64_t steps, float* c) {
  _tile_zero(0);
  if (Q > 1) _tile_zero(1);
  if (P > 1) _tile_zero(2);
  if (P > 1 && Q > 1) _tile_zero(3);
  for (int64_t step = 0; step < steps; step++, a += P * kTile, b += Q * kTile) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (Q > 1) {
      _tile_loadd(7, b + kTile, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (P > 1) {
      _tile_loadd(5, a + kTile, 64);
      _tile_dpbf16ps(2, 5, 6);
    }
    if (P > 1 && Q > 1) _tile_dpbf16ps(3, 5, 7);
  }
  constexpr int64_t sums = kTileRows * kTileRows;
  _tile_stored(0, c, 64);
  if (Q > 1) _tile_stored(1, c + sums, 64);
  if (P > 1) _tile_stored(2, c + Q * sums, 64);
  if (P > 1 && Q > 1) _tile_stored(3, c + (Q + 1) * sums, 64);
}

// The same for widths that are known when it runs.
inline void multiply_panels(int64_t p, int64_t q, const BFloat16* a, const BFloat16* b,
                            int64_t steps, float* c) {
  if (p > 1) {
    q > 1 ? multiply_panels<2, 2>(a, b, steps, c) : multiply_panels<2, 1>(a, b, steps, c);
  } else {
    q > 1 ? multiply_panels<1, 2>(a, b, steps, c) : multiply_panels<1, 1>(a, b, steps, c);
  }
}

// The first `count` of 32 lanes.
DNC_INLINE __mmask32 first_lanes(int64_t count) { return count < 32 ? (1u << count) - 1 : ~0u; }

// 32 sums, rounded.
DNC_INLINE __m512i rounded(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// 16 rows of 16 cells of 32 bits, turned.
DNC_INLINE void turn(__m512i* rows) {
  Vec<float> square[kTileRows];
  DNC_UNROLL for (int i = 0; i < kTileRows; i++) square[i] = (Vec<float>)rows[i];
  transpose<float>(square);
  DNC_UNROLL for (int i = 0; i < kTileRows; i++) rows[i] = (__m512i)square[i];
}

}  // namespace dnc::DNC_ISA
