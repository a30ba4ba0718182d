#include "plan.h"

#include <algorithm>
#include <utility>

namespace dnc {

namespace {

// A packed tile is 32 KiB of float32 in an L1 of 48 KiB.
constexpr int64_t kTileFloats = 8192;
constexpr int64_t kTileNeurons = kTileFloats / kBatchTile;

// The weight gradient sums over the samples of a tile in registers and then over the lanes. Long
// tiles of samples pay for that, as long as a row has edges enough in a tile of so few columns.
int64_t grad_batch_tile(int64_t slots, int64_t columns) {
  return slots * (kTileFloats / 256) >= 2 * columns ? 256 : 128;
}

// Multiplications below which waking a second thread costs more than it brings.
constexpr int64_t kSerialWork = 1 << 20;

bool equal_counts(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns,
                  int64_t tile) {
  const int64_t tiles = columns / tile;
  if (slots % tiles) return false;
  const int64_t per_tile = slots / tiles;
  for (int64_t i = 0; i < rows * slots; i++) {
    if (sources[i] < 0 || sources[i] / tile != i % slots / per_tile) return false;
  }
  return true;
}

// Columns of a tile, and the slots of every row in it, 0 where they differ.
struct Tiling {
  int64_t tile, per_tile;
};

Tiling choose_tiling(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns,
                     int64_t widest) {
  const int64_t largest = std::min(widest, columns);
  for (int64_t tile = largest; tile * 4 >= largest; tile--) {
    if (columns % tile == 0 && equal_counts(sources, rows, slots, columns, tile)) {
      return {tile, slots / (columns / tile)};
    }
  }
  return {largest, 0};
}

// Kept from call to call; each use has its own tag, so that two can be alive together.
template <class T, int tag>
T* scratch(int64_t count) {
  static thread_local std::vector<T> memory;
  if (int64_t(memory.size()) < count) memory.resize(static_cast<size_t>(count));
  return memory.data();
}
constexpr int kWide = 0;
constexpr int kTransposed = 1;

}  // namespace

Table::Table(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns,
             int64_t row_block, int64_t column_block, int64_t tile_neurons, int64_t batch_tile) {
  Direction& d = direction_;
  d.rows = rows;
  d.columns = columns;
  d.slots = slots;
  d.batch_tile = batch_tile;
  d.row_block = row_block;
  d.column_block = column_block;
  const int64_t widest = std::max<int64_t>(1, tile_neurons / column_block);
  const Tiling tiling = choose_tiling(sources, rows, slots, columns, widest);
  d.tile = tiling.tile;
  d.tiles = (columns + d.tile - 1) / d.tile;
  d.per_tile = tiling.per_tile;
  offset_.resize(static_cast<size_t>(rows * slots));
  for (int64_t i = 0; i < rows * slots; i++) {
    offset_[size_t(i)] = sources[i] < 0 ? 0 : uint16_t(sources[i] % d.tile);
  }
  d.offset = offset_.data();
  if (d.per_tile == 0) {
    start_.resize(static_cast<size_t>((d.tiles + 1) * rows));
    for (int64_t row = 0; row < rows; row++) {
      int64_t slot = 0;
      for (int64_t tile = 0; tile <= d.tiles; tile++) {
        while (slot < slots && sources[row * slots + slot] >= 0 &&
               sources[row * slots + slot] < tile * d.tile) {
          slot++;
        }
        start_[size_t(tile * rows + row)] = int32_t(slot);
      }
    }
    d.start = start_.data();
  }
}

Plan::Transposed::Transposed(const int32_t* from, int64_t rows, int64_t row_slots,
                             int64_t columns) {
  std::vector<int32_t> count(static_cast<size_t>(columns));
  for (int64_t at = 0; at < rows * row_slots; at++) {
    if (from[at] >= 0) count[size_t(from[at])]++;
  }
  slots = *std::max_element(count.begin(), count.end());
  sources.assign(static_cast<size_t>(columns * slots), -1);
  targets.assign(static_cast<size_t>(columns * slots), -1);
  std::fill(count.begin(), count.end(), 0);
  for (int64_t at = 0; at < rows * row_slots; at++) {
    if (from[at] < 0) continue;
    const int64_t to = from[at] * slots + count[size_t(from[at])]++;
    sources[size_t(to)] = int32_t(at / row_slots);
    targets[size_t(to)] = int32_t(at);
  }
}

Plan::Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
           int64_t column_block)
    : Plan(sources, rows, slots, columns, row_block, column_block,
           Transposed(sources, rows, slots, columns)) {}

Plan::Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
           int64_t column_block, Transposed&& transposed)
    : edges_(rows * slots * row_block * column_block),
      forward_(sources, rows, slots, columns, row_block, column_block, kTileNeurons, kBatchTile),
      backward_(transposed.sources.data(), columns, transposed.slots, rows, column_block, row_block,
                kTileNeurons, kBatchTile),
      gradient_(sources, rows, slots, columns, row_block, column_block,
                kTileFloats / grad_batch_tile(slots, columns), grad_batch_tile(slots, columns)),
      targets_(std::move(transposed.targets)) {}

int Plan::useful_threads(int64_t batch, int threads) const {
  return edges_ * batch < kSerialWork ? 1 : std::max(1, threads);
}

// Weights in the order of the backward direction, blocks turned; tile by tile, so that what is
// read stays in cache.
template <class T>
void Plan::transpose_weight(const T* weight, T* result, int threads) const {
  const Direction& d = backward_.direction();
  const int64_t bo = d.column_block, bi = d.row_block, cells = bo * bi;
  const int32_t* targets = targets_.data();
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t tile = 0; tile < d.tiles; tile++) {
    for (int64_t row = 0; row < d.rows; row++) {
      const int64_t first = d.per_tile ? tile * d.per_tile : d.start[tile * d.rows + row];
      const int64_t last = d.per_tile ? first + d.per_tile : d.start[(tile + 1) * d.rows + row];
      const int64_t from = row * d.slots + first, to = row * d.slots + last;
      if (cells == 1) {
        for (int64_t slot = from; slot < to; slot++) result[slot] = weight[targets[slot]];
        continue;
      }
      for (int64_t slot = from; slot < to; slot++) {
        const T* block = weight + targets[slot] * cells;
        T* turned = result + slot * cells;
        for (int64_t o = 0; o < bo; o++) {
          for (int64_t i = 0; i < bi; i++) turned[i * bo + o] = block[o * bi + i];
        }
      }
    }
  }
}

// The weights in the type that sums are kept in.
const void* Plan::widened(const Kernels& kernels, DType dtype, const void* weight,
                          int threads) const {
  if (dtype != DType::bfloat16) return weight;
  float* wide = scratch<float, kWide>(edges_);
  kernels.widen(weight, wide, edges_, threads);
  return wide;
}

void Plan::forward(const Kernels& kernels, DType dtype, const Matrix& x, const void* weight,
                   const void* bias, const Matrix& y, int64_t batch, int threads) const {
  const int used = useful_threads(batch, threads);
  kernels.multiply(forward_.direction(), dtype, x, widened(kernels, dtype, weight, used), bias, y,
                   batch, used);
}

void Plan::grad_input(const Kernels& kernels, DType dtype, const Matrix& grad_y, const void* weight,
                      const Matrix& grad_x, int64_t batch, int threads) const {
  const int used = useful_threads(batch, threads);
  const Direction& d = backward_.direction();
  const int64_t cells = d.rows * d.slots * d.row_block * d.column_block;
  weight = widened(kernels, dtype, weight, used);
  const void* turned = nullptr;
  if (dtype == DType::float64) {
    double* result = scratch<double, kTransposed>(cells);
    transpose_weight(static_cast<const double*>(weight), result, used);
    turned = result;
  } else {
    float* result = scratch<float, kTransposed>(cells);
    transpose_weight(static_cast<const float*>(weight), result, used);
    turned = result;
  }
  kernels.multiply(d, dtype, grad_y, turned, nullptr, grad_x, batch, used);
}

void Plan::grad_weight(const Kernels& kernels, DType dtype, const Matrix& grad_y, const Matrix& x,
                       void* grad, int64_t batch, int threads) const {
  kernels.grad_weight(gradient_.direction(), dtype, grad_y, x, grad, batch,
                      useful_threads(batch, threads));
}

}  // namespace dnc
