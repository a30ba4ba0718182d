#include "plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace dnc {

namespace {

// Base tiles hold at least this many neurons, and at most four times as many if rows are to have
// equally many slots in each.
constexpr int64_t kBaseNeurons = 32;
// Columns whose transposed weights are written together: one line of each fits in L2.
constexpr int64_t kTransposedColumns = 2048;
constexpr int64_t kLineFloats = 16;
// Columns are padded to the longest while that takes at most 1.3 slots per edge.
constexpr int64_t kPaddedTenths = 13;
// Offsets have 16 bits.
constexpr int64_t kOffsets = 65536;
// Starts of rows in base tiles that are kept per edge, at most.
constexpr int64_t kStartsPerEdge = 1;

// Multiplications below which waking a second thread costs more than it brings.
constexpr int64_t kSerialWork = 1 << 20;

bool equal_counts(const Edges& edges, int64_t columns, int64_t tile) {
  const int64_t tiles = columns / tile;
  if (edges.compact() || edges.slots % tiles) return false;
  const int64_t per_tile = edges.slots / tiles;
  for (int64_t i = 0; i < edges.size(); i++) {
    if (edges.sources[i] < 0 || edges.sources[i] / tile != i % edges.slots / per_tile) return false;
  }
  return true;
}

// Columns of a base tile, and the slots of every row in it, 0 where they differ.
struct Base {
  int64_t tile, slots;
};

Base choose_base(const Edges& edges, int64_t columns, int64_t column_block) {
  const int64_t least = std::min(columns, (kBaseNeurons + column_block - 1) / column_block);
  for (int64_t tile = least; tile <= std::min(columns, 4 * least); tile++) {
    if (columns % tile == 0 && equal_counts(edges, columns, tile)) {
      return {tile, edges.slots / (columns / tile)};
    }
  }
  int64_t tile = std::min(columns, 2 * least);
  // rows with hardly an edge in a tile are visited for nothing, and their starts outweigh the edges
  while (tile < columns && 2 * tile <= kOffsets &&
         (columns + tile - 1) / tile * edges.rows > kStartsPerEdge * edges.size()) {
    tile *= 2;
  }
  return {std::min(columns, tile), 0};
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

// Slots of a row, on average.
int64_t mean_slots(const Direction& d) { return (d.size + d.rows - 1) / d.rows; }

// Samples per packed tile for a product: the denser the rows, the more sums of a row are worth
// holding, and the fewer columns a tile needs to fill them.
int64_t product_shape(const Direction& d, DType dtype) {
  const int64_t wide = dtype == DType::bfloat16 ? 2 : 1;
  if (mean_slots(d) * 4 >= d.columns) return 128;
  return (mean_slots(d) * 24 >= d.columns ? 64 : 32) * wide;
}

// Samples per packed tile for the weight gradient: it adds up lanes once per tile of samples, so
// tiles are as long as leaves a row edges enough in a tile of so few columns.
int64_t grad_shape(const Direction& d, DType dtype) {
  const bool wide = d.row_block > 1 || dtype == DType::bfloat16;
  return wide || mean_slots(d) * 24 >= d.columns ? 256 : 64;
}

// Rows of transposed weights are not whole multiples of a power of two apart, where they would
// contend for the same few lines of a cache.
int64_t padded(int64_t slots, int64_t cells) { return slots + (kLineFloats + cells - 1) / cells; }

}  // namespace

Table::Table(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block,
             int64_t weight_slots) {
  Direction& d = direction_;
  const int64_t rows = edges.rows, size = edges.size();
  const Base base = choose_base(edges, columns, column_block);
  d.rows = rows;
  d.columns = columns;
  d.size = size;
  d.slots = edges.compact() ? 0 : edges.slots;
  d.weight_slots = edges.compact() ? 0 : weight_slots;
  d.row_block = row_block;
  d.column_block = column_block;
  d.base = base.tile;
  d.per_base = base.slots;
  d.most_bases = kMostBases;
  while (d.most_bases * d.base > kOffsets) d.most_bases /= 2;
  d.segment = kOffsets / (d.most_bases * d.base) * d.most_bases * d.base;
  offset_.resize(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; i++) {
    offset_[size_t(i)] = edges.sources[i] < 0 ? 0 : uint16_t(edges.sources[i] % d.segment);
  }
  d.offset = offset_.data();
  if (d.per_base) return;
  const int64_t bases = (columns + d.base - 1) / d.base;
  start_.resize(static_cast<size_t>((bases + 1) * rows));
  for (int64_t row = 0; row < rows; row++) {
    int64_t at = edges.first(row);
    const int64_t last = edges.last(row), origin = edges.compact() ? 0 : at;
    for (int64_t tile = 0; tile <= bases; tile++) {
      while (at < last && edges.sources[at] >= 0 && edges.sources[at] < tile * d.base) at++;
      start_[size_t(tile * rows + row)] = int32_t(at - origin);
    }
  }
  d.start = start_.data();
}

Plan::Transposed::Transposed(const Edges& from, int64_t columns)
    : columns(columns), starts(static_cast<size_t>(columns + 1)) {
  int64_t edges = 0;
  slots = 0;
  for (int64_t at = 0; at < from.size(); at++) {
    if (from.sources[at] < 0) continue;
    slots = std::max(slots, ++starts[size_t(from.sources[at] + 1)]);
    edges++;
  }
  const bool compact = slots > kOffsets || columns * slots * 10 > edges * kPaddedTenths;
  const int64_t size = compact ? edges : columns * slots;
  for (int64_t c = 0; c < columns; c++) {
    starts[size_t(c + 1)] = compact ? starts[size_t(c + 1)] + starts[size_t(c)] : (c + 1) * slots;
  }
  sources.assign(static_cast<size_t>(size), -1);
  compact ? origins.resize(size_t(size)) : places.resize(size_t(from.size()));
  std::vector<int64_t> next(starts.begin(), starts.end() - 1);
  for (int64_t row = 0; row < from.rows; row++) {
    for (int64_t at = from.first(row); at < from.last(row); at++) {
      const int64_t column = from.sources[at];
      if (column < 0) continue;
      const int64_t to = next[size_t(column)]++;
      sources[size_t(to)] = int32_t(row);
      if (compact) {
        origins[size_t(to)] = int32_t(at);
      } else {
        places[size_t(at)] = uint16_t(to - starts[size_t(column)]);
      }
    }
  }
  if (!compact) starts.clear();
}

Edges Plan::Transposed::edges() const {
  return {sources.data(), columns, slots, starts.empty() ? nullptr : starts.data()};
}

Plan::Plan(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block)
    : Plan(edges, columns, row_block, column_block, Transposed(edges, columns)) {}

Plan::Plan(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block,
           Transposed&& transposed)
    : edges_(edges.size() * row_block * column_block),
      forward_(edges, columns, row_block, column_block, edges.slots),
      backward_(transposed.edges(), edges.rows, column_block, row_block,
                padded(transposed.slots, row_block * column_block)),
      places_(std::move(transposed.places)),
      origins_(std::move(transposed.origins)) {}

int Plan::useful_threads(int64_t batch, int threads) const {
  return edges_ * batch < kSerialWork ? 1 : std::max(1, threads);
}

// The same where columns are compact: written one after another, wherever they are read.
template <class T>
void Plan::gather_transposed(const T* from, T* result, int threads) const {
  const Direction& d = forward_.direction();
  const int64_t bo = d.row_block, bi = d.column_block, cells = bo * bi;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t at = 0; at < int64_t(origins_.size()); at++) {
    const T* block = from + origins_[size_t(at)] * cells;
    for (int64_t i = 0; i < bi; i++) {
      for (int64_t o = 0; o < bo; o++) result[at * cells + i * bo + o] = block[o * bi + i];
    }
  }
}

// Weights in the order of the backward direction, blocks turned: read along the rows, one tile of
// columns after another, so that the places they are written to stay in cache.
template <class T>
const void* Plan::transposed(const void* weight, int threads) const {
  const Direction& d = forward_.direction();
  const int64_t bo = d.row_block, bi = d.column_block, cells = bo * bi;
  const Direction& back = backward_.direction();
  const int64_t stride = back.weight_slots;
  T* result = scratch<T, kTransposed>((stride ? d.columns * stride : back.size) * cells);
  const T* from = static_cast<const T*>(weight);
  if (!origins_.empty()) {
    gather_transposed(from, result, threads);
    return result;
  }
  const int64_t bases = (d.columns + d.base - 1) / d.base;
  const int64_t width = std::min(d.most_bases, std::max<int64_t>(1, kTransposedColumns / d.base));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t first = 0; first < bases; first += width) {
    T* columns = result + first * d.base / d.segment * d.segment * stride * cells;
    for (int64_t row = 0; row < d.rows; row++) {
      const auto slot_of = [&](int64_t base) {
        base = std::min(base, bases);
        return row * d.slots + (d.per_base ? base * d.per_base : d.start[base * d.rows + row]);
      };
      const int64_t end = slot_of(first + width);
      for (int64_t slot = slot_of(first); slot < end; slot++) {
        T* turned = columns + (d.offset[slot] * stride + places_[size_t(slot)]) * cells;
        if (cells == 1) {
          *turned = from[slot];
          continue;
        }
        const T* block = from + slot * cells;
        for (int64_t i = 0; i < bi; i++) {
          for (int64_t o = 0; o < bo; o++) turned[i * bo + o] = block[o * bi + i];
        }
      }
    }
  }
  return result;
}

// The weights in the type that they are multiplied in.
const void* Plan::products(const Kernels& kernels, DType dtype, const void* weight,
                           int threads) const {
  if (dtype != DType::bfloat16 || kernels.bfloat16_products) return weight;
  float* wide = scratch<float, kWide>(edges_);
  kernels.widen(weight, wide, edges_, threads);
  return wide;
}

void Plan::forward(const Kernels& kernels, DType dtype, const Matrix& x, const void* weight,
                   const Finish& finish, const Matrix& y, int64_t batch, int64_t shape,
                   int threads) const {
  const int used = useful_threads(batch, threads);
  const Direction& d = forward_.direction();
  if (!shape && batch > 0 && batch <= kernels.few_samples(d, dtype)) {
    return kernels.few(d, dtype, x, weight, finish, y, batch, used);
  }
  kernels.multiply(d, dtype, x, products(kernels, dtype, weight, used), finish, y, batch,
                   shape ? shape : product_shape(d, dtype), used);
}

void Plan::grad_input(const Kernels& kernels, DType dtype, const Matrix& grad_y, const void* weight,
                      const Matrix& grad_x, int64_t batch, int64_t shape, int threads) const {
  const int used = useful_threads(batch, threads);
  const Direction& f = forward_.direction();
  if (!shape && batch > 0 && batch <= kernels.spread_samples(f, dtype)) {
    return kernels.spread(f, dtype, grad_y, weight, grad_x, batch, used);
  }
  const Direction& d = backward_.direction();
  weight = products(kernels, dtype, weight, used);
  const bool half = dtype == DType::bfloat16 && kernels.bfloat16_products;
  weight = dtype == DType::float64 ? transposed<double>(weight, used)
           : half                  ? transposed<uint16_t>(weight, used)
                                   : transposed<float>(weight, used);
  kernels.multiply(d, dtype, grad_y, weight, {nullptr, false}, grad_x, batch,
                   shape ? shape : product_shape(d, dtype), used);
}

void Plan::grad_weight(const Kernels& kernels, DType dtype, const Matrix& grad_y, const Matrix& x,
                       void* grad, int64_t batch, int64_t shape, int threads) const {
  const Direction& d = forward_.direction();
  kernels.grad_weight(d, dtype, grad_y, x, grad, batch, shape ? shape : grad_shape(d, dtype),
                      useful_threads(batch, threads));
}

void Plan::backward(const Kernels& input_kernels, int64_t input_shape,
                    const Kernels& weight_kernels, int64_t weight_shape, DType dtype,
                    const Matrix& grad_y, const Matrix& x, const void* weight, const Matrix& grad_x,
                    void* grad_weight, void* grad_bias, int64_t batch, int threads) const {
  const Direction& d = forward_.direction();
  // first, as it leaves grad_y in cache
  if (grad_bias) {
    input_kernels.sum_samples(dtype, grad_y, grad_bias, d.rows * d.row_block, batch,
                              useful_threads(batch, threads));
  }
  grad_input(input_kernels, dtype, grad_y, weight, grad_x, batch, input_shape, threads);
  this->grad_weight(weight_kernels, dtype, grad_y, x, grad_weight, batch, weight_shape, threads);
}

}  // namespace dnc
