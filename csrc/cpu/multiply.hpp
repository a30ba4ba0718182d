// y = x W^T + bias, for the forward direction and, on the transposed pattern, for grad_input.
//
// for each unit (64 samples x a chunk of rows), on one thread:        y chunk stays in L2
//   for each tile of columns:                                          x tile stays in L1
//     pack the tile of x
//     for each group of rows: accumulators in registers, one broadcast weight per edge
//   unpack the chunk of y
#pragma once

#include "pack.hpp"

namespace dnc::DNC_ISA {

// The part of a unit that the row kernels see; T is the accumulator type.
template <class T>
struct TileView {
  const Direction& d;
  int64_t tile;       // which tile of columns
  int64_t first_row;  // first row of the chunk
  int64_t last_row;   // one past the last
  const T* x;         // [columns of the tile * column_block][kBatchTile]
  const T* weight;    // [rows][slots][row_block][column_block]
  T* y;               // [rows of the chunk * row_block][kBatchTile]
};

// 1x1 edges: G rows at once with the same number of edges, V vectors of samples. Offsets and
// weights of the next row are `slots` further on.
template <class T, int G, int V>
DNC_INLINE void edge_rows(const T* x, const T* weight, const uint16_t* offset, int64_t slots,
                          int64_t edges, T* y) {
  constexpr int n = lanes<T>;
  Vec<T> sum[G][V];
  DNC_UNROLL for (int g = 0; g < G; g++) {
    DNC_UNROLL for (int v = 0; v < V; v++) sum[g][v] = load(y + g * kBatchTile + v * n);
  }
  for (int64_t e = 0; e < edges; e++) {
    DNC_UNROLL for (int g = 0; g < G; g++) {
      const T* value = x + int64_t(offset[g * slots + e]) * kBatchTile;
      const Vec<T> w = broadcast(weight[g * slots + e]);
      DNC_UNROLL for (int v = 0; v < V; v++) sum[g][v] += w * load(value + v * n);
    }
  }
  DNC_UNROLL for (int g = 0; g < G; g++) {
    DNC_UNROLL for (int v = 0; v < V; v++) store(y + g * kBatchTile + v * n, sum[g][v]);
  }
}

template <class T, int V>
void edge_tile(const TileView<T>& t, int64_t sample) {
  // what the loop needs stays in registers: the compiler cannot know that y is not the plan
  constexpr int G = DNC_VECTOR_BYTES == 64 ? 4 : 2;
  const int64_t slots = t.d.slots, edges = t.d.per_tile;
  const T* x = t.x + sample;
  T* y = t.y + sample;
  int64_t row = t.first_row;
  if (edges) {
    const int64_t at = row * slots + t.tile * edges;
    const T* weight = t.weight + at;
    const uint16_t* offset = t.d.offset + at;
    for (; row + G <= t.last_row; row += G) {
      edge_rows<T, G, V>(x, weight, offset, slots, edges, y);
      weight += G * slots;
      offset += G * slots;
      y += G * kBatchTile;
    }
  }
  for (; row < t.last_row; row++, y += kBatchTile) {
    const int64_t at = row * slots + first_slot(t.d, t.tile, row);
    edge_rows<T, 1, V>(x, t.weight + at, t.d.offset + at, slots, slot_count(t.d, t.tile, row), y);
  }
}

// Blocks: R outputs of one block row share every vector of x they read.
template <class T, int R, int V>
DNC_INLINE void block_rows(const TileView<T>& t, int64_t row, int64_t output, int64_t sample) {
  constexpr int n = lanes<T>;
  const int64_t bo = t.d.row_block, bi = t.d.column_block;
  const int64_t at = row * t.d.slots + first_slot(t.d, t.tile, row);
  const int64_t count = slot_count(t.d, t.tile, row);
  T* y = t.y + ((row - t.first_row) * bo + output) * kBatchTile + sample;
  Vec<T> sum[R][V];
  DNC_UNROLL for (int r = 0; r < R; r++) {
    DNC_UNROLL for (int v = 0; v < V; v++) sum[r][v] = load(y + r * kBatchTile + v * n);
  }
  for (int64_t slot = 0; slot < count; slot++) {
    const T* x = t.x + int64_t(t.d.offset[at + slot]) * bi * kBatchTile + sample;
    const T* weight = t.weight + ((at + slot) * bo + output) * bi;
    for (int64_t i = 0; i < bi; i++) {
      Vec<T> value[V];
      DNC_UNROLL for (int v = 0; v < V; v++) value[v] = load(x + i * kBatchTile + v * n);
      DNC_UNROLL for (int r = 0; r < R; r++) {
        const Vec<T> w = broadcast(weight[r * bi + i]);
        DNC_UNROLL for (int v = 0; v < V; v++) sum[r][v] += w * value[v];
      }
    }
  }
  DNC_UNROLL for (int r = 0; r < R; r++) {
    DNC_UNROLL for (int v = 0; v < V; v++) store(y + r * kBatchTile + v * n, sum[r][v]);
  }
}

template <class T, int V>
void block_tile(const TileView<T>& t, int64_t sample) {
  // R * V accumulators must fit the registers: 32 with AVX-512, 16 otherwise
  constexpr int widest = DNC_VECTOR_BYTES == 64 ? (V > 2 ? 4 : 8) : (V > 2 ? 2 : 4);
  const int64_t bo = t.d.row_block;
  for (int64_t row = t.first_row; row < t.last_row; row++) {
    int64_t output = 0;
    if constexpr (widest >= 8) {
      for (; output + 8 <= bo; output += 8) block_rows<T, 8, V>(t, row, output, sample);
    }
    if constexpr (widest >= 4) {
      for (; output + 4 <= bo; output += 4) block_rows<T, 4, V>(t, row, output, sample);
    }
    for (; output + 2 <= bo; output += 2) block_rows<T, 2, V>(t, row, output, sample);
    for (; output < bo; output++) block_rows<T, 1, V>(t, row, output, sample);
  }
}

template <class T>
void multiply_tile(const TileView<T>& t, int64_t samples) {
  constexpr int n = lanes<T>;
  const int64_t vectors = divide_up(samples, n);
  const bool edges = t.d.row_block == 1 && t.d.column_block == 1;
  // 8 outputs x 2 vectors feed more multiplications per load of x than 4 x 4
  const bool tall = DNC_VECTOR_BYTES == 64 && t.d.row_block >= 8;
  int64_t v = 0;
  for (; v + 4 <= vectors && !tall; v += 4) {
    edges ? edge_tile<T, 4>(t, v * n) : block_tile<T, 4>(t, v * n);
  }
  for (; v + 2 <= vectors; v += 2) {
    edges ? edge_tile<T, 2>(t, v * n) : block_tile<T, 2>(t, v * n);
  }
  for (; v < vectors; v++) edges ? edge_tile<T, 1>(t, v * n) : block_tile<T, 1>(t, v * n);
}

template <class S>
void multiply_unit(const Direction& d, const Matrix& x, const typename Accumulator<S>::type* weight,
                   const S* bias, const Matrix& y, int64_t first_sample, int64_t samples,
                   int64_t first_row, int64_t last_row) {
  using T = typename Accumulator<S>::type;
  static thread_local Scratch scratch;
  const int64_t features = smaller(d.tile, d.columns) * d.column_block;
  const int64_t outputs = (last_row - first_row) * d.row_block;
  T* x_tile =
      static_cast<T*>(scratch.reserve((features + outputs) * kBatchTile * int64_t(sizeof(T))));
  T* y_chunk = x_tile + features * kBatchTile;
  for (int64_t o = 0; o < outputs; o++) {
    const T start = bias ? widen(bias[first_row * d.row_block + o]) : T(0);
    for (int64_t b = 0; b < kBatchTile; b += lanes<T>) {
      store(y_chunk + o * kBatchTile + b, broadcast(start));
    }
  }
  const S* x_data = static_cast<const S*>(x.data) + first_sample * x.batch_stride;
  for (int64_t tile = 0; tile < d.tiles; tile++) {
    const int64_t column = tile * d.tile;
    const int64_t width = smaller(d.tile, d.columns - column) * d.column_block;
    pack(x_data + column * d.column_block * x.feature_stride, x.batch_stride, x.feature_stride,
         samples, width, x_tile, kBatchTile);
    multiply_tile(TileView<T>{d, tile, first_row, last_row, x_tile, weight, y_chunk}, samples);
  }
  S* y_data = static_cast<S*>(y.data) + first_sample * y.batch_stride;
  unpack(y_chunk, kBatchTile, samples, outputs, y_data + first_row * d.row_block * y.feature_stride,
         y.batch_stride, y.feature_stride);
}

template <class S>
void multiply(const Direction& d, const Matrix& x, const void* weight, const void* bias,
              const Matrix& y, int64_t batch, int threads) {
  using T = typename Accumulator<S>::type;
  // a chunk of y must leave room in a 1 MiB L2 for the weights that stream past it
  const int64_t l2_rows = 262144 / (kBatchTile * d.row_block * int64_t(sizeof(T)));
  const int64_t batch_tiles = divide_up(batch, kBatchTile);
  const int64_t chunks_for_threads = batch_tiles ? divide_up(threads, batch_tiles) : 1;
  int64_t chunk = smaller(l2_rows > 4 ? l2_rows : 4, divide_up(d.rows, chunks_for_threads));
  // rows are computed four at a time
  chunk = round_up(chunk, 4);
  const int64_t chunks = divide_up(d.rows, chunk);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t unit = 0; unit < batch_tiles * chunks; unit++) {
    const int64_t first_sample = unit / chunks * kBatchTile;
    const int64_t first_row = unit % chunks * chunk;
    multiply_unit<S>(d, x, static_cast<const T*>(weight), static_cast<const S*>(bias), y,
                     first_sample, smaller(kBatchTile, batch - first_sample), first_row,
                     smaller(d.rows, first_row + chunk));
  }
}

}  // namespace dnc::DNC_ISA
