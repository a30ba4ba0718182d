// The tile products of warp_tiles.cuh on the CPU: every lane holds whole operands and sums its half
// of a row, lane / 2.
#pragma once

#include "widened.hpp"

namespace dnc::cuda {

template <class T, bool kTransposed>
struct LeftTile {
  static constexpr bool kAlongK = !kTransposed;
  float value[16][16];  // [row][k]
};
template <class T, bool kTransposed>
struct RightTile {
  static constexpr bool kAlongK = !kTransposed;
  float value[16][16];  // [column][k]
};
struct SumTile {
  float value[8];
};

inline void check_tile_address(const void* address, int stride_bytes) {
  if (reinterpret_cast<uintptr_t>(address) % 32 || stride_bytes % 16) {
    emulator::fail("gives a tile a misaligned address or stride");
  }
}

inline void clear_tile(SumTile& sum) { sum = {}; }

template <class Tile, class T>
void load_tile(Tile& tile, const T* from, int stride) {
  check_tile_address(from, stride * int(sizeof(T)));
  for (int outer = 0; outer < 16; ++outer) {
    for (int k = 0; k < 16; ++k) {
      const T* at = Tile::kAlongK ? from + outer * stride + k : from + k * stride + outer;
      tile.value[outer][k] = widened<T>(shared_load<T>(at).bits);
    }
  }
}

template <class Left, class Right>
void add_product(SumTile& sum, const Left& left, const Right& right) {
  const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
  for (int e = 0; e < 8; ++e) {
    for (int k = 0; k < 16; ++k) {
      sum.value[e] += left.value[row][k] * right.value[column + e][k];
    }
  }
}

inline void store_tile(float* to, const SumTile& sum, int stride) {
  check_tile_address(to, stride * int(sizeof(float)));
  const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
  for (int e = 0; e < 8; ++e) {
    to[row * stride + column + e] = sum.value[e];
  }
}

}  // namespace dnc::cuda
