// grad[edge] = sum over the batch of grad_y[right] * x[left].
//
// for each panel of samples:
//   pack grad_y once, shared by all threads: [tiles of samples][outputs][samples]
//   for each unit (a tile of columns x a chunk of rows), on one thread:
//     for each tile of samples: pack x, then for each group of kSums edges (R outputs x C inputs):
//       one vector of sums per edge, samples in the lanes; add up the lanes of all of them
//
// Every edge is summed by one thread in a fixed order, so the result does not depend on threads.
#pragma once

#include "pack.hpp"

namespace dnc::DNC_ISA {

// One tile of columns against one tile of samples.
template <class S>
struct GradView {
  using C = Cells<S>;
  const Direction& d;
  const Tiling& tiling;
  int64_t tile;
  const typename C::Cell* x;       // [columns * column_block][samples], from the offsets' origin on
  const typename C::Cell* grad_y;  // [outputs][samples]
  typename C::Sum* grad;           // [rows][slots][row_block][column_block]
  int64_t vectors;                 // of cells
  bool add;                        // to what earlier tiles of samples left in grad
};

// sums[r * C + c] = the dot product of right neuron r and left neuron x[r * C + c] or, where the
// right neurons share their left ones, x[c].
template <class S, int R, int C, bool shared>
DNC_INLINE void dot_products(const typename Cells<S>::Cell* const* grad_y,
                             const typename Cells<S>::Cell* const* x, int64_t vectors,
                             Vec<typename Cells<S>::Sum>* sums) {
  using T = typename Cells<S>::Sum;
  constexpr int cells = lanes<T> * Cells<S>::parts;
  // a neuron's address is fetched once for several vectors of samples, as far as those of grad_y
  // fit the registers beside the sums
  constexpr int at_once = shared || kSums <= 8 ? 1 : R <= 2 ? 4 : R <= 4 ? 2 : 1;
  each<R * C>([&](auto j) __attribute__((always_inline)) { sums[j] = Vec<T>{}; });
  const auto step = [&](auto size, int64_t v) __attribute__((always_inline)) {
    each<R * C>([&](auto j) __attribute__((always_inline)) {
      const auto* values = shared ? x[j % C] + v * cells : opaque(x[j] + v * cells);
      each<decltype(size)::value>([&](auto u) __attribute__((always_inline)) {
        sums[j] = Cells<S>::dot(grad_y[j / C] + (v + u) * cells, values + u * cells, sums[j]);
      });
    });
  };
  int64_t v = 0;
  for (; v + at_once <= vectors; v += at_once) step(Size<at_once>(), v);
  for (; v < vectors; v++) step(Size<1>(), v);
}

// The lanes of kSums vectors, added up.
template <class T>
DNC_INLINE void add_lanes(const Vec<T>* sums, T* total) {
  constexpr int n = lanes<T>;
  each<kSums / n>([&](auto j) __attribute__((always_inline)) {
    store(total + j * n, sum_each<T>(sums + j * n));
  });
}

// R outputs x C inputs. The outputs are those of one block row from `output` on or, for 1x1 edges,
// those of R rows. The inputs are a row's inputs in this tile, numbered through its slots from
// `slot` on; `input` is the first taken, `inputs` their number.
template <class S, int R, bool blocks>
DNC_INLINE void grad_group(const GradView<S>& g, int64_t row, int64_t output, int64_t slot,
                           int64_t input, int64_t inputs) {
  using T = typename Cells<S>::Sum;
  constexpr int C = kSums / R;
  const int64_t bo = blocks ? g.d.row_block : 1, bi = blocks ? g.d.column_block : 1;
  const int64_t used = smaller(C, inputs - input);
  const int64_t slots = g.d.slots, samples = g.tiling.samples;
  const typename Cells<S>::Cell *x[kSums], *grad_y[R];
  T* target[C];
  DNC_UNROLL for (int r = 0; r < R; r++) {
    grad_y[r] = g.grad_y + ((blocks ? row * bo + output : row) + r) * samples;
  }
  int64_t at = row * slots + slot + input / bi, i = input % bi;
  DNC_UNROLL for (int c = 0; c < C; c++) {
    target[c] = g.grad + (at * bo + output) * bi + i;
    DNC_UNROLL for (int r = 0; r < (blocks ? 1 : R); r++) {
      x[r * C + c] = g.x + (g.d.offset[at + r * slots] * bi + i) * samples;
    }
    // sums past the last input repeat it and are not stored
    const bool more = c + 1 < used;
    const bool next_slot = i + 1 == bi;
    at += more && next_slot;
    i = more ? (next_slot ? 0 : i + 1) : i;
  }
  Vec<T> sums[kSums];
  dot_products<S, R, C, blocks>(grad_y, x, g.vectors, sums);
  T total[kSums];
  add_lanes(sums, total);
  const int64_t next_output = blocks ? bi : slots;
  if (!blocks && used == C) {
    // the edges of a row are neighbours in memory
    DNC_UNROLL for (int r = 0; r < R; r++) {
      T* edges = target[0] + r * slots;
      if (g.add) {
        for (int c = 0; c < C; c++) edges[c] += total[r * C + c];
      } else {
        for (int c = 0; c < C; c++) edges[c] = total[r * C + c];
      }
    }
    return;
  }
  for (int r = 0; r < R; r++) {
    for (int64_t c = 0; c < used; c++) {
      T* edge = target[c] + r * next_output;
      *edge = total[r * C + c] + (g.add ? *edge : T(0));
    }
  }
}

// A block's R outputs from `output` on x its C inputs from `input` on.
template <class S, int R, int C>
DNC_INLINE void grad_square(const GradView<S>& g, int64_t row, int64_t output, int64_t slot,
                            int64_t input) {
  using T = typename Cells<S>::Sum;
  const int64_t bo = g.d.row_block, bi = g.d.column_block, samples = g.tiling.samples;
  const int64_t at = row * g.d.slots + slot;
  const typename Cells<S>::Cell *x[C], *grad_y[R];
  for (int r = 0; r < R; r++) grad_y[r] = g.grad_y + (row * bo + output + r) * samples;
  for (int c = 0; c < C; c++) x[c] = g.x + (g.d.offset[at] * bi + input + c) * samples;
  Vec<T> sums[kSums];
  dot_products<S, R, C, true>(grad_y, x, g.vectors, sums);
  T total[kSums];
  add_lanes(sums, total);
  T* target = g.grad + (at * bo + output) * bi + input;
  DNC_UNROLL for (int r = 0; r < R; r++) {
    DNC_UNROLL for (int c = 0; c < C; c++) {
      T* edge = target + r * bi + c;
      *edge = total[r * C + c] + (g.add ? *edge : T(0));
    }
  }
}

template <class S, int R>
int64_t grad_block_outputs(const GradView<S>& g, int64_t row, int64_t output) {
  constexpr int C = kSums / R;
  const int64_t slot = g.tiling.first_slot(g.d, g.tile, row);
  const int64_t slots = g.tiling.slots(g.d, g.tile, row), bi = g.d.column_block;
  for (; output + R <= g.d.row_block; output += R) {
    if (bi % C == 0) {
      for (int64_t s = slot; s < slot + slots; s++) {
        for (int64_t i = 0; i < bi; i += C) grad_square<S, R, C>(g, row, output, s, i);
      }
      continue;
    }
    for (int64_t input = 0; input < slots * bi; input += C) {
      grad_group<S, R, true>(g, row, output, slot, input, slots * bi);
    }
  }
  return output;
}

template <class S>
void grad_blocks(const GradView<S>& g, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; row++) {
    int64_t done = grad_block_outputs<S, 4>(g, row, 0);
    done = grad_block_outputs<S, 2>(g, row, done);
    grad_block_outputs<S, 1>(g, row, done);
  }
}

// 1x1 edges with equal counts: R rows at once.
template <class S, int R>
int64_t grad_edges(const GradView<S>& g, int64_t row, int64_t last_row) {
  const int64_t slot = g.tiling.first_slot(g.d, g.tile, row);
  const int64_t edges = g.tiling.equal_slots(g.d, g.tile);
  for (; row + R <= last_row; row += R) {
    for (int64_t input = 0; input < edges; input += kSums / R) {
      grad_group<S, R, false>(g, row, 0, slot, input, edges);
    }
  }
  return row;
}

// Edges gathered from any rows until they make kSums.
template <class S>
struct EdgeList {
  using T = typename Cells<S>::Sum;
  const typename Cells<S>::Cell *x[kSums], *grad_y[kSums];
  T* target[kSums];
  int count = 0;

  void sum(int64_t vectors, bool add) {
    // four edges at once hide the latency of their sums and leave registers for their pointers
    constexpr int at_once = 4, cells = lanes<T> * Cells<S>::parts;
    for (int j = count; j < kSums; j++) {
      x[j] = x[0];
      grad_y[j] = grad_y[0];
    }
    Vec<T> sums[kSums];
    DNC_UNROLL for (int j = 0; j < kSums; j += at_once) {
      Vec<T> own[at_once];
      DNC_UNROLL for (int q = 0; q < at_once; q++) own[q] = Vec<T>{};
      for (int64_t v = 0; v < vectors; v++) {
        DNC_UNROLL for (int q = 0; q < at_once; q++) {
          own[q] = Cells<S>::dot(grad_y[j + q] + v * cells, x[j + q] + v * cells, own[q]);
        }
      }
      DNC_UNROLL for (int q = 0; q < at_once; q++) sums[j + q] = own[q];
    }
    T total[kSums];
    add_lanes(sums, total);
    for (int j = 0; j < count; j++) *target[j] = total[j] + (add ? *target[j] : T(0));
    count = 0;
  }
};

// 1x1 edges in any number per row: whole groups share their row's grad_y, the rest is listed.
template <class S>
void grad_rows(const GradView<S>& g, int64_t row, int64_t last_row) {
  EdgeList<S> list;
  for (; row < last_row; row++) {
    int64_t slot = g.tiling.first_slot(g.d, g.tile, row);
    const int64_t end = slot + g.tiling.slots(g.d, g.tile, row);
    for (; slot + kSums <= end; slot += kSums) grad_group<S, 1, false>(g, row, 0, slot, 0, kSums);
    for (int64_t at = row * g.d.slots + slot; at < row * g.d.slots + end; at++) {
      list.x[list.count] = g.x + g.d.offset[at] * g.tiling.samples;
      list.grad_y[list.count] = g.grad_y + row * g.tiling.samples;
      list.target[list.count] = g.grad + at;
      if (++list.count == kSums) list.sum(g.vectors, g.add);
    }
  }
  if (list.count) list.sum(g.vectors, g.add);
}

template <class S>
void grad_tile(const GradView<S>& g, int64_t first_row, int64_t last_row) {
  if (g.d.row_block > 1 || g.d.column_block > 1) return grad_blocks(g, first_row, last_row);
  // rows too short to make a group: one is made of two, four or eight of them
  int64_t row = first_row;
  const int64_t edges = g.tiling.equal_slots(g.d, g.tile);
  if (edges && edges < kSums) {
    if (edges >= kSums / 2) row = grad_edges<S, 2>(g, row, last_row);
    if (edges >= kSums / 4) row = grad_edges<S, 4>(g, row, last_row);
    if (edges >= kSums / 8) row = grad_edges<S, 8>(g, row, last_row);
  }
  grad_rows(g, row, last_row);
}

template <class S>
void grad_weight(const Direction& d, const Matrix& grad_y, const Matrix& x, void* grad,
                 int64_t batch, int64_t shape, int threads) {
  using T = typename Cells<S>::Sum;
  using Cell = typename Cells<S>::Cell;
  constexpr bool narrows = sizeof(S) != sizeof(T);
  constexpr int64_t vector = lanes<T> * Cells<S>::parts;
  const Tiling tiling(d, round_up(smaller(shape, batch ? batch : 1), vector),
                      tile_bytes(d) / int64_t(sizeof(Cell)));
  const int64_t outputs = d.rows * d.row_block;
  const int64_t cells = d.size * d.row_block * d.column_block;
  const int64_t tile_samples = tiling.samples;
  const int64_t panel_size = round_up(smaller(batch ? batch : 1, kGradPanel), tile_samples);
  static thread_local Scratch scratch;
  const int64_t panel_bytes = round_up(outputs * panel_size * int64_t(sizeof(Cell)), 64);
  char* memory =
      static_cast<char*>(scratch.reserve(panel_bytes + (narrows ? cells * int64_t(sizeof(T)) : 0)));
  Cell* panel = reinterpret_cast<Cell*>(memory);
  T* result = narrows ? reinterpret_cast<T*>(memory + panel_bytes) : static_cast<T*>(grad);
  // empty slots, and a batch of none, are zero
  if (batch == 0 || !d.per_base) {
    for (int64_t i = 0; i < cells; i++) result[i] = T(0);
  }
  const int64_t pack_rows = 64;
  const int64_t pack_chunks = divide_up(outputs, pack_rows);
  // a thread stays with as many rows as have their grad_y in L2, over all tiles of columns
  const int64_t l2_rows = kGradBytes / (d.row_block * panel_size * int64_t(sizeof(Cell)));
  const int64_t row_chunk = round_up(smaller(larger(larger(l2_rows, 1), rows_worth_packing(d)),
                                             divide_up(d.rows, divide_up(threads, tiling.count))),
                                     16);
  const int64_t row_chunks = divide_up(d.rows, row_chunk);
  for (int64_t start = 0; start < batch; start += panel_size) {
    const int64_t samples = smaller(panel_size, batch - start);
    const int64_t batch_tiles = divide_up(samples, tile_samples);
    const S* grad_y_data = static_cast<const S*>(grad_y.data) + start * grad_y.batch_stride;
    const S* x_data = static_cast<const S*>(x.data) + start * x.batch_stride;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < batch_tiles * pack_chunks; unit++) {
        const int64_t tile = unit / pack_chunks, output = unit % pack_chunks * pack_rows;
        const int64_t own = smaller(tile_samples, samples - tile * tile_samples);
        pack(grad_y_data + tile * tile_samples * grad_y.batch_stride +
                 output * grad_y.feature_stride,
             grad_y.batch_stride, grad_y.feature_stride, own, round_up(own, vector),
             smaller(pack_rows, outputs - output), panel + (tile * outputs + output) * tile_samples,
             tile_samples);
      }
      static thread_local Scratch tile_scratch;
      Cell* x_tile = static_cast<Cell*>(tile_scratch.reserve(tiling.columns(d, 0) * d.column_block *
                                                             tile_samples * int64_t(sizeof(Cell))));
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < tiling.count * row_chunks; unit++) {
        const int64_t tile = unit % tiling.count, row = unit / tiling.count * row_chunk;
        const int64_t column = tiling.first_column(tile) * d.column_block;
        const int64_t origin = tiling.origin(d, tile) * d.column_block;
        for (int64_t b = 0; b < batch_tiles; b++) {
          const int64_t left = smaller(tile_samples, samples - b * tile_samples);
          pack(x_data + b * tile_samples * x.batch_stride + column * x.feature_stride,
               x.batch_stride, x.feature_stride, left, round_up(left, vector),
               tiling.columns(d, tile) * d.column_block, x_tile, tile_samples);
          const GradView<S> view{d,
                                 tiling,
                                 tile,
                                 x_tile - origin * tile_samples,
                                 panel + b * outputs * tile_samples,
                                 result,
                                 divide_up(left, vector),
                                 start > 0 || b > 0};
          grad_tile(view, row, smaller(d.rows, row + row_chunk));
        }
      }
    }
  }
  if constexpr (narrows) {
    S* target = static_cast<S*>(grad);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t i = 0; i < cells; i++) narrow(result[i], target + i);
  }
}

}  // namespace dnc::DNC_ISA
