// The tile products of warp_tiles.cuh on the CPU: a lane sums half of row lane / 2, and holds of
// the operands what that takes.
#pragma once

#include "widened.hpp"

namespace dnc::cuda {

namespace emulated {

inline int tile_row() { return int(threadIdx.x) % 32 / 2; }
inline int tile_column() { return int(threadIdx.x) % 2 * 8; }

}  // namespace emulated

// `kHeld` rows (left) or columns (right) from `first()` on, each of 16 numbers along k.
template <class T, bool kTransposed>
struct LeftTile {
  static constexpr bool kAlongK = !kTransposed;
  static constexpr int kHeld = 1;
  static int first() { return emulated::tile_row(); }
  float value[kHeld][16];
};
template <class T, bool kTransposed>
struct RightTile {
  static constexpr bool kAlongK = !kTransposed;
  static constexpr int kHeld = 8;
  static int first() { return emulated::tile_column(); }
  float value[kHeld][16];
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
  for (int held = 0; held < Tile::kHeld; ++held) {
    const int outer = Tile::first() + held;
    for (int k = 0; k < 16; ++k) {
      const T* at = Tile::kAlongK ? from + outer * stride + k : from + k * stride + outer;
      tile.value[held][k] = widened<T>(shared_load<T>(at).bits);
    }
  }
}

template <class Left, class Right>
void add_product(SumTile& sum, const Left& left, const Right& right) {
  for (int e = 0; e < 8; ++e) {
    for (int k = 0; k < 16; ++k) {
      sum.value[e] += left.value[0][k] * right.value[e][k];
    }
  }
}

inline void store_tile(float* to, const SumTile& sum, int stride) {
  check_tile_address(to, stride * int(sizeof(float)));
  float* const own = to + emulated::tile_row() * stride + emulated::tile_column();
  for (int e = 0; e < 8; ++e) {
    own[e] = sum.value[e];
  }
}

}  // namespace dnc::cuda
