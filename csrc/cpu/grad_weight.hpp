// grad[edge] = sum over the batch of grad_y[right] * x[left].
//
// for each panel of samples:
//   pack grad_y once, shared by all threads: [batch tiles][outputs][batch_tile]
//   for each unit (a tile of columns x a chunk of rows), on one thread:
//     for each batch tile: pack x, then for each group of `lanes` edges (R outputs x C inputs):
//       one accumulator per edge, samples in the lanes; reduce all of them to one vector of sums
//
// Every edge is summed by one thread in a fixed order, so the result does not depend on threads.
#pragma once

#include "pack.hpp"

namespace dnc::DNC_ISA {

// One tile of columns against one batch tile.
template <class T>
struct GradView {
  const Direction& d;
  int64_t tile;
  const T* x;       // [columns of the tile * column_block][batch_tile]
  const T* grad_y;  // [outputs][batch_tile]
  T* grad;          // [rows][slots][row_block][column_block]
  int64_t vectors;  // of samples
  bool add;         // to what earlier batch tiles left in grad
};

// R outputs x C inputs, one accumulator each. The outputs are those of one block row from `output`
// on or, for 1x1 edges, those of R rows. The inputs are a row's inputs in this tile, numbered
// through its slots from `slot` on; `input` is the first taken, `inputs` their number.
template <class T, int R, bool blocks>
DNC_INLINE void grad_group(const GradView<T>& g, int64_t row, int64_t output, int64_t slot,
                           int64_t input, int64_t inputs) {
  constexpr int n = lanes<T>;
  constexpr int C = n / R;
  const int64_t bo = blocks ? g.d.row_block : 1, bi = blocks ? g.d.column_block : 1;
  const int64_t used = smaller(C, inputs - input);
  const int64_t slots = g.d.slots, samples = g.d.batch_tile;
  const T* x[n];
  const T* grad_y[R];
  T* target[C];
  DNC_UNROLL for (int r = 0; r < R; r++) {
    grad_y[r] = g.grad_y + ((blocks ? row * bo + output : row) + r) * samples;
  }
  int64_t at = row * slots + slot + input / bi, i = input % bi;
  DNC_UNROLL for (int c = 0; c < C; c++) {
    target[c] = g.grad + (at * bo + output) * bi + i;
    DNC_UNROLL for (int r = 0; r < R; r++) {
      const int64_t column = g.d.offset[blocks ? at : at + r * slots];
      x[r * C + c] = g.x + (column * bi + i) * samples;
    }
    // lanes past the last input repeat it and are not stored
    const bool more = c + 1 < used;
    const bool next_slot = i + 1 == bi;
    at += more && next_slot;
    i = more ? (next_slot ? 0 : i + 1) : i;
  }
  Vec<T> sum[n];
  DNC_UNROLL for (int j = 0; j < n; j++) sum[j] = Vec<T>{};
  for (int64_t v = 0; v < g.vectors; v++) {
    DNC_UNROLL for (int r = 0; r < R; r++) {
      const Vec<T> value = load(grad_y[r] + v * n);
      DNC_UNROLL for (int c = 0; c < C; c++) sum[r * C + c] += value * load(x[r * C + c] + v * n);
    }
  }
  T total[n];
  store(total, sum_each<T>(sum));
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

template <class T, int R>
void grad_block_row(const GradView<T>& g, int64_t row, int64_t first, int64_t last, int64_t slot,
                    int64_t inputs) {
  for (int64_t output = first; output + R <= last; output += R) {
    for (int64_t input = 0; input < inputs; input += lanes<T> / R) {
      grad_group<T, R, true>(g, row, output, slot, input, inputs);
    }
  }
}

template <class T>
void grad_blocks(const GradView<T>& g, int64_t first_row, int64_t last_row) {
  const int64_t bo = g.d.row_block;
  for (int64_t row = first_row; row < last_row; row++) {
    const int64_t slot = first_slot(g.d, g.tile, row);
    const int64_t inputs = slot_count(g.d, g.tile, row) * g.d.column_block;
    int64_t done = 0;
    if constexpr (lanes<T> >= 4) {
      grad_block_row<T, 4>(g, row, 0, bo, slot, inputs);
      done = bo / 4 * 4;
    }
    grad_block_row<T, 1>(g, row, done, bo, slot, inputs);
  }
}

// 1x1 edges with equal counts: R rows at once.
template <class T, int R>
int64_t grad_edges(const GradView<T>& g, int64_t row, int64_t last_row) {
  const int64_t slot = g.tile * g.d.per_tile;
  for (; row + R <= last_row; row += R) {
    for (int64_t input = 0; input < g.d.per_tile; input += lanes<T> / R) {
      grad_group<T, R, false>(g, row, 0, slot, input, g.d.per_tile);
    }
  }
  return row;
}

// Edges gathered from any rows until they fill the lanes.
template <class T>
struct EdgeList {
  static constexpr int n = lanes<T>;
  const T* x[n];
  const T* grad_y[n];
  T* target[n];
  int count = 0;

  void sum(int64_t vectors, bool add) {
    // four edges at once hide the latency of their sums and leave registers for their pointers
    constexpr int at_once = n < 4 ? n : 4;
    for (int j = count; j < n; j++) {
      x[j] = x[0];
      grad_y[j] = grad_y[0];
    }
    Vec<T> sums[n];
    DNC_UNROLL for (int j = 0; j < n; j += at_once) {
      Vec<T> own[at_once];
      DNC_UNROLL for (int q = 0; q < at_once; q++) own[q] = Vec<T>{};
      for (int64_t v = 0; v < vectors; v++) {
        DNC_UNROLL for (int q = 0; q < at_once; q++) {
          own[q] += load(grad_y[j + q] + v * n) * load(x[j + q] + v * n);
        }
      }
      DNC_UNROLL for (int q = 0; q < at_once; q++) sums[j + q] = own[q];
    }
    T total[n];
    store(total, sum_each<T>(sums));
    for (int j = 0; j < count; j++) *target[j] = total[j] + (add ? *target[j] : T(0));
    count = 0;
  }
};

// 1x1 edges in any number per row: whole groups share their row's grad_y, the rest is listed.
template <class T>
void grad_rows(const GradView<T>& g, int64_t row, int64_t last_row) {
  constexpr int64_t n = lanes<T>;
  EdgeList<T> list;
  for (; row < last_row; row++) {
    int64_t slot = first_slot(g.d, g.tile, row);
    const int64_t end = slot + slot_count(g.d, g.tile, row);
    for (; slot + n <= end; slot += n) grad_group<T, 1, false>(g, row, 0, slot, 0, n);
    for (int64_t at = row * g.d.slots + slot; at < row * g.d.slots + end; at++) {
      list.x[list.count] = g.x + g.d.offset[at] * g.d.batch_tile;
      list.grad_y[list.count] = g.grad_y + row * g.d.batch_tile;
      list.target[list.count] = g.grad + at;
      if (++list.count == n) list.sum(g.vectors, g.add);
    }
  }
  if (list.count) list.sum(g.vectors, g.add);
}

template <class T>
void grad_tile(const GradView<T>& g, int64_t first_row, int64_t last_row) {
  constexpr int n = lanes<T>;
  if (g.d.row_block > 1 || g.d.column_block > 1) return grad_blocks(g, first_row, last_row);
  // rows too short to fill the lanes: a group shares two, four or eight of them
  int64_t row = first_row;
  const int64_t edges = g.d.per_tile;
  if (edges < n) {
    if constexpr (n >= 8) {
      if (edges >= n / 2) row = grad_edges<T, 2>(g, row, last_row);
      if (edges >= n / 4) row = grad_edges<T, 4>(g, row, last_row);
    }
    if constexpr (n >= 16) {
      if (edges >= n / 8) row = grad_edges<T, 8>(g, row, last_row);
    }
  }
  grad_rows(g, row, last_row);
}

template <class S>
void grad_weight(const Direction& d, const Matrix& grad_y, const Matrix& x, void* grad,
                 int64_t batch, int threads) {
  using T = typename Accumulator<S>::type;
  constexpr bool narrows = sizeof(S) != sizeof(T);
  const int64_t outputs = d.rows * d.row_block;
  const int64_t cells = d.rows * d.slots * d.row_block * d.column_block;
  const int64_t batch_tile = d.batch_tile;
  const int64_t panel_size = smaller(round_up(batch, batch_tile), kGradPanel);
  static thread_local Scratch scratch;
  const int64_t panel_cells = outputs * panel_size;
  T* panel =
      static_cast<T*>(scratch.reserve((panel_cells + (narrows ? cells : 0)) * int64_t(sizeof(T))));
  T* result = narrows ? panel + panel_cells : static_cast<T*>(grad);
  // empty slots, and a batch of none, are zero
  if (batch == 0 || !d.per_tile) {
    for (int64_t i = 0; i < cells; i++) result[i] = T(0);
  }
  const int64_t pack_rows = 64;
  const int64_t pack_chunks = divide_up(outputs, pack_rows);
  const int64_t row_chunks = divide_up(threads, d.tiles ? d.tiles : 1);
  const int64_t row_chunk = round_up(divide_up(d.rows, row_chunks), 16);
  for (int64_t start = 0; start < batch; start += kGradPanel) {
    const int64_t samples = smaller(kGradPanel, batch - start);
    const int64_t batch_tiles = divide_up(samples, batch_tile);
    const S* grad_y_data = static_cast<const S*>(grad_y.data) + start * grad_y.batch_stride;
    const S* x_data = static_cast<const S*>(x.data) + start * x.batch_stride;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < batch_tiles * pack_chunks; unit++) {
        const int64_t tile = unit / pack_chunks, output = unit % pack_chunks * pack_rows;
        pack(grad_y_data + tile * batch_tile * grad_y.batch_stride + output * grad_y.feature_stride,
             grad_y.batch_stride, grad_y.feature_stride,
             smaller(batch_tile, samples - tile * batch_tile), smaller(pack_rows, outputs - output),
             panel + (tile * outputs + output) * batch_tile, batch_tile);
      }
      static thread_local Scratch tile_scratch;
      T* x_tile = static_cast<T*>(tile_scratch.reserve(smaller(d.tile, d.columns) * d.column_block *
                                                       batch_tile * int64_t(sizeof(T))));
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < d.tiles * row_chunks; unit++) {
        const int64_t tile = unit / row_chunks, row = unit % row_chunks * row_chunk;
        const int64_t column = tile * d.tile;
        const int64_t width = smaller(d.tile, d.columns - column) * d.column_block;
        for (int64_t b = 0; b < batch_tiles; b++) {
          const int64_t left = smaller(batch_tile, samples - b * batch_tile);
          pack(
              x_data + b * batch_tile * x.batch_stride + column * d.column_block * x.feature_stride,
              x.batch_stride, x.feature_stride, left, width, x_tile, batch_tile);
          const GradView<T> view{d,
                                 tile,
                                 x_tile,
                                 panel + b * outputs * batch_tile,
                                 result,
                                 divide_up(left, lanes<T>),
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
