// y = finish(x W^T), for the forward direction and, on the transposed pattern, for grad_input.
//
// for each unit (a tile of samples x a chunk of rows), on one thread:     sums stay in L2
//   for each tile of columns:                                             x tile stays in L1
//     pack the tile of x
//     for each group of rows: sums in registers, one broadcast weight per edge
//   after the last tile, while they are in L1: unpack the sums of a few rows to y
#pragma once

#include "pack.hpp"

namespace dnc::DNC_ISA {

// The part of a unit that the row kernels see. Sums are [rows * row_block][samples of the tile].
template <class S>
struct TileView {
  using C = Cells<S>;
  const Direction& d;
  const Tiling& tiling;
  int64_t tile;
  bool first;                 // sums start here, from the bias
  const typename C::Cell* x;  // [columns of the tile * column_block][samples]
  const typename C::Weight* weight;
  const S* bias;  // of all rows; may be null
};

template <class S>
DNC_INLINE typename Cells<S>::Sum bias_of(const S* bias, int64_t output) {
  return bias ? typename Cells<S>::Sum(widen(bias[output])) : 0;
}

// Sums of G x V vectors of cells: loaded from y or, in the first tile, started from the bias.
template <class S, int G, int V>
struct Sums {
  using C = Cells<S>;
  using T = typename C::Sum;
  static constexpr int n = lanes<T>, parts = C::parts;
  Vec<T> sum[G][V][parts];

  DNC_INLINE void start(const TileView<S>& t, int64_t output, const T* y) {
    const int64_t stride = t.tiling.samples;
    DNC_UNROLL for (int g = 0; g < G; g++) {
      const Vec<T> from = t.first ? broadcast(bias_of(t.bias, output + g)) : Vec<T>{};
      DNC_UNROLL for (int v = 0; v < V; v++) {
        DNC_UNROLL for (int p = 0; p < parts; p++) {
          sum[g][v][p] = t.first ? from : load(y + g * stride + (v * parts + p) * n);
        }
      }
    }
  }

  DNC_INLINE void finish(const TileView<S>& t, T* y) {
    DNC_UNROLL for (int g = 0; g < G; g++) {
      DNC_UNROLL for (int v = 0; v < V; v++) {
        DNC_UNROLL for (int p = 0; p < parts; p++) {
          store(y + g * t.tiling.samples + (v * parts + p) * n, sum[g][v][p]);
        }
      }
    }
  }
};

// 1x1 edges: G rows at once with the same number of edges.
template <class S, int G, int V>
DNC_INLINE void edge_rows(const TileView<S>& t, const typename Cells<S>::Cell* x,
                          const typename Cells<S>::Weight* weight, const uint16_t* offset,
                          int64_t edges, int64_t row, typename Cells<S>::Sum* y) {
  using C = Cells<S>;
  constexpr int parts = C::parts, cells = lanes<typename C::Sum> * parts;
  const int64_t slots = t.d.slots, weights = t.d.weight_slots, stride = t.tiling.samples;
  Sums<S, G, V> sums;
  sums.start(t, row, y);
  const auto edge = [&](int g, int64_t e, bool pair) __attribute__((always_inline)) {
    const uint16_t* at = offset + g * slots + e;
    const auto* value = opaque(x + at[0] * stride);
    const auto* next = pair ? opaque(x + at[1] * stride) : value;
    const typename C::Factor w = C::factor(weight + g * weights + e, pair);
    DNC_UNROLL for (int v = 0; v < V; v++) {
      typename C::Operand operand[parts];
      C::operand(value + v * cells, next + v * cells, pair, operand);
      DNC_UNROLL for (int p = 0; p < parts; p++) {
        sums.sum[g][v][p] = C::multiply(w, operand[p], sums.sum[g][v][p]);
      }
    }
  };
  int64_t e = 0;
  for (; e + C::depth <= edges; e += C::depth) {
    DNC_UNROLL for (int g = 0; g < G; g++) edge(g, e, C::depth == 2);
  }
  if constexpr (C::depth == 2) {
    if (e < edges) {
      DNC_UNROLL for (int g = 0; g < G; g++) edge(g, e, false);
    }
  }
  sums.finish(t, y);
}

// V vectors of cells from `sample` on, of rows [first_row, last_row).
template <class S, int V>
void edge_tile(const TileView<S>& t, int64_t first_row, int64_t last_row, int64_t sample,
               typename Cells<S>::Sum* y) {
  constexpr int held = V * Cells<S>::parts;
  constexpr int G = held >= kSums ? 1 : kSums / held < 4 ? kSums / held : 4;
  const int64_t slots = t.d.slots, weights = t.d.weight_slots;
  const int64_t edges = t.tiling.equal_slots(t.d, t.tile);
  const auto* x = t.x + sample - t.tiling.origin(t.d, t.tile) * t.tiling.samples;
  y += sample;
  int64_t row = first_row;
  if (edges) {
    const int64_t slot = t.tiling.first_slot(t.d, t.tile, row);
    const auto* weight = t.weight + row * weights + slot;
    const uint16_t* offset = t.d.offset + row * slots + slot;
    for (; row + G <= last_row; row += G) {
      edge_rows<S, G, V>(t, x, weight, offset, edges, row, y);
      weight += G * weights;
      offset += G * slots;
      y += G * t.tiling.samples;
    }
  }
  for (; row < last_row; row++, y += t.tiling.samples) {
    const int64_t slot = t.tiling.first_slot(t.d, t.tile, row);
    edge_rows<S, 1, V>(t, x, t.weight + row * weights + slot, t.d.offset + row * slots + slot,
                       t.tiling.slots(t.d, t.tile, row), row, y);
  }
}

// Blocks: R outputs of one block row share every operand.
template <class S, int R, int V>
DNC_INLINE void block_rows(const TileView<S>& t, const typename Cells<S>::Cell* x, int64_t row,
                           int64_t output, typename Cells<S>::Sum* y) {
  using C = Cells<S>;
  constexpr int parts = C::parts, cells = lanes<typename C::Sum> * parts;
  const int64_t bo = t.d.row_block, bi = t.d.column_block, stride = t.tiling.samples;
  const int64_t first = t.tiling.first_slot(t.d, t.tile, row);
  const int64_t count = t.tiling.slots(t.d, t.tile, row);
  const uint16_t* offset = t.d.offset + row * t.d.slots + first;
  const auto* weights = t.weight + ((row * t.d.weight_slots + first) * bo + output) * bi;
  Sums<S, R, V> sums;
  sums.start(t, row * bo + output, y);
  const auto input = [&](const auto* value, const auto* weight,
                         bool pair) __attribute__((always_inline)) {
    typename C::Operand operand[V][parts];
    DNC_UNROLL for (int v = 0; v < V; v++) {
      C::operand(value + v * cells, value + stride + v * cells, pair, operand[v]);
    }
    DNC_UNROLL for (int r = 0; r < R; r++) {
      const typename C::Factor w = C::factor(weight + r * bi, pair);
      DNC_UNROLL for (int v = 0; v < V; v++) {
        DNC_UNROLL for (int p = 0; p < parts; p++) {
          sums.sum[r][v][p] = C::multiply(w, operand[v][p], sums.sum[r][v][p]);
        }
      }
    }
  };
  for (int64_t slot = 0; slot < count; slot++) {
    const auto* value = x + offset[slot] * bi * stride;
    const auto* weight = weights + slot * bo * bi;
    int64_t i = 0;
    for (; i + C::depth <= bi; i += C::depth) input(value + i * stride, weight + i, C::depth == 2);
    if constexpr (C::depth == 2) {
      if (i < bi) input(value + i * stride, weight + i, false);
    }
  }
  sums.finish(t, y);
}

template <class S, int V>
void block_tile(const TileView<S>& t, int64_t first_row, int64_t last_row, int64_t sample,
                typename Cells<S>::Sum* y) {
  constexpr int held = V * Cells<S>::parts;
  constexpr int widest = held >= kSums ? 1 : kSums / held < 8 ? kSums / held : 8;
  const int64_t bo = t.d.row_block;
  const auto* x = t.x + sample - t.tiling.origin(t.d, t.tile) * t.d.column_block * t.tiling.samples;
  for (int64_t row = first_row; row < last_row; row++) {
    auto* sums = y + (row - first_row) * bo * t.tiling.samples + sample;
    const auto outputs = [&](auto size, int64_t output) __attribute__((always_inline)) {
      constexpr int R = decltype(size)::value;
      if constexpr (R <= widest) {
        for (; output + R <= bo; output += R) {
          block_rows<S, R, V>(t, x, row, output, sums + output * t.tiling.samples);
        }
      }
      return output;
    };
    int64_t done = outputs(Size<8>(), 0);
    done = outputs(Size<4>(), done);
    done = outputs(Size<2>(), done);
    outputs(Size<1>(), done);
  }
}

// A pass of 8, 4, 2 or 1 vectors of cells takes what is left of a tile if that fills three quarters
// of it: three vectors are better computed as four than as two and one.
constexpr int64_t least_vectors(int64_t pass) { return pass - pass / 4; }

// The widest pass: it holds the sums of a row, and of 8 outputs where a block shares its operands
// among so many.
template <class S>
int64_t widest_pass(const Direction& d) {
  constexpr int widest = kRowSums / Cells<S>::parts;
  constexpr int shared = kSums / 8 / Cells<S>::parts;
  return d.row_block >= 8 && shared > 0 ? shared : widest;
}

// Vectors that the passes over so many compute.
template <class S>
int64_t computed_vectors(const Direction& d, int64_t vectors) {
  int64_t done = 0;
  for (int64_t pass = widest_pass<S>(d); pass > 0; pass /= 2) {
    while (done < vectors && vectors - done >= least_vectors(pass)) done += pass;
  }
  return done;
}

template <class S, int V>
int64_t tile_pass(const TileView<S>& t, int64_t first_row, int64_t last_row, int64_t vectors,
                  int64_t done, typename Cells<S>::Sum* y) {
  constexpr int cells = lanes<typename Cells<S>::Sum> * Cells<S>::parts;
  if constexpr (V * Cells<S>::parts <= kRowSums) {
    if (V > widest_pass<S>(t.d)) return done;
    const bool edges = t.d.row_block == 1 && t.d.column_block == 1;
    for (; done < vectors && vectors - done >= least_vectors(V); done += V) {
      edges ? edge_tile<S, V>(t, first_row, last_row, done * cells, y)
            : block_tile<S, V>(t, first_row, last_row, done * cells, y);
    }
  }
  return done;
}

template <class S>
void multiply_tile(const TileView<S>& t, int64_t first_row, int64_t last_row, int64_t vectors,
                   typename Cells<S>::Sum* y) {
  int64_t done = tile_pass<S, 8>(t, first_row, last_row, vectors, 0, y);
  done = tile_pass<S, 4>(t, first_row, last_row, vectors, done, y);
  done = tile_pass<S, 2>(t, first_row, last_row, vectors, done, y);
  tile_pass<S, 1>(t, first_row, last_row, vectors, done, y);
}

// Block rows that are unpacked together: their sums fit in L1 beside the tile of x, and make whole
// vectors of outputs.
inline int64_t unpacked_rows(int64_t row_block) {
  int64_t rows = 1;
  while (rows * row_block % 32 && rows < 32) rows++;
  return rows;
}

// The next tile of a batch-major x, fetched to L1 in as many parts as there are steps until it is
// packed: its rows are too short and too far apart for the processor to foresee.
class Arrival {
 public:
  template <class S>
  Arrival(const S* tile, const Matrix& x, int64_t samples, int64_t features, int64_t steps)
      : row_(reinterpret_cast<const char*>(tile)),
        stride_(x.batch_stride * int64_t(sizeof(S))),
        bytes_(features * int64_t(sizeof(S))),
        left_(x.feature_stride == 1 && bytes_ ? samples : 0),
        part_(divide_up(samples, steps)) {}

  void fetch() {
    for (int64_t i = smaller(part_, left_); i > 0; i--, left_--, row_ += stride_) {
      for (int64_t byte = 0; byte < bytes_; byte += 64) __builtin_prefetch(row_ + byte);
    }
  }

 private:
  const char* row_;
  int64_t stride_, bytes_, left_, part_;
};

template <class S>
struct Product {
  using C = Cells<S>;
  using T = typename C::Sum;
  static constexpr int64_t cells = lanes<T> * C::parts;
  const Direction& d;
  const Matrix& x;
  const typename C::Weight* weight;
  const Finish& finish;
  const Matrix& y;
  const Tiling& tiling;

  void unit(int64_t first_sample, int64_t samples, int64_t first_row, int64_t last_row) const {
    static thread_local Scratch scratch;
    const int64_t stride = tiling.samples, vectors = divide_up(samples, cells);
    const int64_t padded = computed_vectors<S>(d, vectors) * cells;
    const int64_t x_bytes = round_up(
        tiling.columns(d, 0) * d.column_block * stride * int64_t(sizeof(typename C::Cell)), 64);
    const int64_t sums_bytes = (last_row - first_row) * d.row_block * stride * int64_t(sizeof(T));
    char* memory = static_cast<char*>(scratch.reserve(x_bytes + sums_bytes));
    auto* x_tile = reinterpret_cast<typename C::Cell*>(memory);
    T* sums = reinterpret_cast<T*>(memory + x_bytes);
    const S* x_data = static_cast<const S*>(x.data) + first_sample * x.batch_stride;
    S* y_data = static_cast<S*>(y.data) + first_sample * y.batch_stride;
    for (int64_t tile = 0; tile < tiling.count; tile++) {
      const int64_t column = tiling.first_column(tile) * d.column_block;
      pack(x_data + column * x.feature_stride, x.batch_stride, x.feature_stride, samples, padded,
           tiling.columns(d, tile) * d.column_block, x_tile, stride);
      const TileView<S> view{
          d, tiling, tile, tile == 0, x_tile, weight, static_cast<const S*>(finish.bias)};
      const bool last = tile + 1 == tiling.count;
      const int64_t step = unpacked_rows(d.row_block);
      Arrival next(x_data + tiling.first_column(tile + 1) * d.column_block, x, samples,
                   last ? 0 : tiling.columns(d, tile + 1) * d.column_block,
                   divide_up(last_row - first_row, step));
      for (int64_t row = first_row; row < last_row; row += step) {
        const int64_t end = smaller(row + step, last_row);
        T* own = sums + (row - first_row) * d.row_block * stride;
        multiply_tile(view, row, end, vectors, own);
        next.fetch();
        if (last) {
          unpack(own, stride, samples, (end - row) * d.row_block, finish.relu,
                 y_data + row * d.row_block * y.feature_stride, y.batch_stride, y.feature_stride);
        }
      }
    }
  }
};

template <class S>
void multiply(const Direction& d, const Matrix& x, const void* weight, const Finish& finish,
              const Matrix& y, int64_t batch, int64_t shape, int threads) {
  using C = Cells<S>;
  constexpr int64_t cells = Product<S>::cells;
  const int64_t vectors = divide_up(smaller(shape, batch ? batch : 1), cells);
  const Tiling tiling(d, computed_vectors<S>(d, vectors) * cells,
                      tile_bytes(d) / int64_t(sizeof(typename C::Cell)));
  const Product<S> product{d, x, static_cast<const typename C::Weight*>(weight), finish, y, tiling};
  const int64_t samples = tiling.samples;
  // the sums of a chunk must leave room in L2 for the weights that stream past them
  const int64_t l2_rows = kSumsBytes / (samples * d.row_block * int64_t(sizeof(typename C::Sum)));
  const int64_t batch_tiles = divide_up(batch, samples);
  const int64_t chunks_for_threads = batch_tiles ? divide_up(threads, batch_tiles) : 1;
  const int64_t step = unpacked_rows(d.row_block);
  const int64_t chunk = round_up(smaller(larger(larger(l2_rows, 4), rows_worth_packing(d)),
                                         divide_up(d.rows, chunks_for_threads)),
                                 step);
  const int64_t chunks = divide_up(d.rows, chunk);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t unit = 0; unit < batch_tiles * chunks; unit++) {
    const int64_t first_sample = unit / chunks * samples;
    const int64_t first_row = unit % chunks * chunk;
    product.unit(first_sample, smaller(samples, batch - first_sample), first_row,
                 smaller(d.rows, first_row + chunk));
  }
}

}  // namespace dnc::DNC_ISA
