// Between the caller's batch-major tensors and the kernels' tiles: [features][samples].
#pragma once

#include <cstdlib>

#include "cells.hpp"
#include "kernels.h"

namespace dnc::DNC_ISA {

// A packed tile of x: two thirds of an L1 of 48 KiB.
constexpr int64_t kTileBytes = 32768;
// The sums of a unit: a quarter of an L2 of 1 MiB.
constexpr int64_t kSumsBytes = 262144;
// The packed right-hand gradients that a unit of the weight gradient reads again and again.
constexpr int64_t kGradBytes = 524288;

DNC_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DNC_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
DNC_INLINE int64_t round_up(int64_t a, int64_t step) { return (a + step - 1) / step * step; }
DNC_INLINE int64_t divide_up(int64_t a, int64_t step) { return (a + step - 1) / step; }

// Rows below which packing the columns they read would cost more than a quarter of their products.
inline int64_t rows_worth_packing(const Direction& d) {
  return d.size ? 4 * d.columns * d.rows / (d.size * d.row_block) : 1;
}

// Outputs of a block share what they read, so its tile may come from L2, where fewer and wider
// tiles touch the sums less often.
inline int64_t tile_bytes(const Direction& d) {
  return d.row_block > 1 ? 8 * kTileBytes : kTileBytes;
}

// The first slot of a row in a base tile, counted from the row's first (compact: the first row's).
DNC_INLINE int64_t slot_at(const Direction& d, int64_t base, int64_t row) {
  return d.per_base ? base * d.per_base : d.start[base * d.rows + row];
}

// The tiles that a call cuts the columns into.
struct Tiling {
  int64_t samples;  // per tile
  int64_t bases;    // base tiles per tile
  int64_t width;    // block columns per tile
  int64_t count;

  // As many base tiles as make `cells` cells, at least one.
  Tiling(const Direction& d, int64_t samples, int64_t cells) : samples(samples), bases(1) {
    while (bases < d.most_bases && 2 * bases * d.base * d.column_block * samples <= cells)
      bases *= 2;
    width = bases * d.base;
    count = divide_up(d.columns, width);
  }

  int64_t first_column(int64_t tile) const { return tile * width; }
  int64_t columns(const Direction& d, int64_t tile) const {
    return smaller(width, d.columns - tile * width);
  }
  // what offsets of this tile count from
  int64_t origin(const Direction& d, int64_t tile) const { return tile * width % d.segment; }
  // Where a row's slots in a tile begin, counted from the row's first, and how many there are.
  int64_t first_slot(const Direction& d, int64_t tile, int64_t row) const {
    return slot_at(d, tile * bases, row);
  }
  int64_t slots(const Direction& d, int64_t tile, int64_t row) const {
    if (d.per_base) return equal_slots(d, tile);
    const int64_t end = smaller((tile + 1) * bases, divide_up(d.columns, d.base));
    return slot_at(d, end, row) - first_slot(d, tile, row);
  }
  // slots of every row in a tile, 0 where they differ
  int64_t equal_slots(const Direction& d, int64_t tile) const {
    return columns(d, tile) / d.base * d.per_base;
  }
};

// Memory that a thread keeps from call to call, since fresh pages cost more than the packing.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  void* reserve(int64_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = round_up(bytes, 4096);
      data_ = std::aligned_alloc(4096, size_t(size_));
      if (data_ == nullptr) std::abort();
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Copy samples x features into tile[feature * stride + sample], in the order and the type of
// Cells<S>; samples from `samples` up to `padded`, whole vectors, become zero.
template <class S>
void pack(const S* source, int64_t batch_stride, int64_t feature_stride, int64_t samples,
          int64_t padded, int64_t features, typename Cells<S>::Cell* tile, int64_t stride) {
  using C = Cells<S>;
  using T = typename C::Sum;
  constexpr int n = lanes<T>, step = n * C::parts;
  static const S zeros[n] = {};
  const int64_t whole = feature_stride == 1 ? features / n * n : 0;
  for (int64_t b = 0; b < padded; b += step) {
    for (int64_t f = 0; f < whole; f += n) {
      const auto row = [&](int position) {
        const int64_t sample = b + C::sample_at(position);
        return sample < samples ? source + sample * batch_stride + f : zeros;
      };
      Vec<T> square[n];
      DNC_UNROLL for (int i = 0; i < n; i++) {
        if constexpr (C::parts == 1) {
          square[i] = load_wide(row(i));
        } else {
          square[i] = pair_cells(row(2 * i), row(2 * i + 1));
        }
      }
      transpose<T>(square);
      DNC_UNROLL for (int i = 0; i < n; i++) {
        store(reinterpret_cast<T*>(tile + (f + i) * stride + b), square[i]);
      }
    }
    for (int64_t f = whole; f < features; f++) {
      for (int position = 0; position < step; position++) {
        const int64_t sample = b + C::sample_at(position);
        typename C::Cell* cell = tile + f * stride + b + position;
        *cell = {};
        if (sample < samples) convert(source[sample * batch_stride + f * feature_stride], cell);
      }
    }
  }
}

// Copy tile[feature * stride + sample] to samples x features, rounding to S.
template <class S, class T>
void unpack(const T* tile, int64_t stride, int64_t samples, int64_t features, bool relu, S* target,
            int64_t batch_stride, int64_t feature_stride) {
  constexpr int n = lanes<T>;
  const int64_t whole = feature_stride == 1 ? features / n * n : 0;
  for (int64_t b = 0; b < samples; b += n) {
    for (int64_t f = 0; f < whole; f += n) {
      Vec<T> square[n];
      DNC_UNROLL for (int i = 0; i < n; i++) {
        square[i] = load(tile + (f + i) * stride + b);
        if (relu) square[i] = positive(square[i]);
      }
      transpose<T>(square);
      DNC_UNROLL for (int i = 0; i < n; i++) {
        if (b + i < samples) store_narrow(target + (b + i) * batch_stride + f, square[i]);
      }
    }
  }
  for (int64_t f = whole; f < features; f++) {
    for (int64_t b = 0; b < samples; b++) {
      const T value = tile[f * stride + b];
      narrow(relu && value < 0 ? T(0) : value, target + b * batch_stride + f * feature_stride);
    }
  }
}

}  // namespace dnc::DNC_ISA
