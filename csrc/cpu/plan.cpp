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
// Offsets have 16 bits.
constexpr int64_t kOffsets = 65536;

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

// Columns of a base tile, and the slots of every row in it, 0 where they differ.
struct Base {
  int64_t tile, slots;
};

Base choose_base(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns,
                 int64_t column_block) {
  const int64_t least = std::min(columns, (kBaseNeurons + column_block - 1) / column_block);
  for (int64_t tile = least; tile <= std::min(columns, 4 * least); tile++) {
    if (columns % tile == 0 && equal_counts(sources, rows, slots, columns, tile)) {
      return {tile, slots / (columns / tile)};
    }
  }
  return {std::min(columns, 2 * least), 0};
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

// Samples per packed tile for a product: the denser the rows, the more sums of a row are worth
// holding, and the fewer columns a tile needs to fill them.
int64_t product_shape(const Direction& d, DType dtype) {
  const int64_t wide = dtype == DType::bfloat16 ? 2 : 1;
  if (d.slots * 4 >= d.columns) return 128;
  return (d.slots * 24 >= d.columns ? 64 : 32) * wide;
}

// Samples per packed tile for the weight gradient: it adds up lanes once per tile of samples, so
// tiles are as long as leaves a row edges enough in a tile of so few columns.
int64_t grad_shape(const Direction& d, DType dtype) {
  if (d.row_block > 1 || d.slots * 24 >= d.columns || dtype == DType::bfloat16) return 256;
  return 64;
}

// Rows of transposed weights are not whole multiples of a power of two apart, where they would
// contend for the same few lines of a cache.
int64_t padded(int64_t slots, int64_t cells) { return slots + (kLineFloats + cells - 1) / cells; }

}  // namespace

Table::Table(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns,
             int64_t row_block, int64_t column_block, int64_t weight_slots) {
  Direction& d = direction_;
  const Base base = choose_base(sources, rows, slots, columns, column_block);
  d = {rows,      columns,    slots, weight_slots, row_block, column_block,
       base.tile, base.slots, 0,     nullptr,      nullptr};
  d.segment = kOffsets / (kMostBases * d.base) * kMostBases * d.base;
  offset_.resize(static_cast<size_t>(rows * slots));
  for (int64_t i = 0; i < rows * slots; i++) {
    offset_[size_t(i)] = sources[i] < 0 ? 0 : uint16_t(sources[i] % d.segment);
  }
  d.offset = offset_.data();
  if (d.per_base) return;
  const int64_t bases = (columns + d.base - 1) / d.base;
  start_.resize(static_cast<size_t>((bases + 1) * rows));
  for (int64_t row = 0; row < rows; row++) {
    const int32_t* own = sources + row * slots;
    int64_t slot = 0;
    for (int64_t tile = 0; tile <= bases; tile++) {
      while (slot < slots && own[slot] >= 0 && own[slot] < tile * d.base) slot++;
      start_[size_t(tile * rows + row)] = int32_t(slot);
    }
  }
  d.start = start_.data();
}

Plan::Transposed::Transposed(const int32_t* from, int64_t rows, int64_t row_slots,
                             int64_t columns) {
  std::vector<int32_t> count(static_cast<size_t>(columns));
  places.resize(static_cast<size_t>(rows * row_slots));
  for (int64_t at = 0; at < rows * row_slots; at++) {
    if (from[at] >= 0) places[size_t(at)] = uint16_t(count[size_t(from[at])]++);
  }
  slots = *std::max_element(count.begin(), count.end());
  if (slots > kOffsets) {
    throw std::invalid_argument("a left neuron has edges to " + std::to_string(slots) +
                                " right neurons; the CPU kernels count at most 65536");
  }
  sources.assign(static_cast<size_t>(columns * slots), -1);
  for (int64_t at = 0; at < rows * row_slots; at++) {
    if (from[at] < 0) continue;
    sources[size_t(from[at] * slots + places[size_t(at)])] = int32_t(at / row_slots);
  }
}

Plan::Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
           int64_t column_block)
    : Plan(sources, rows, slots, columns, row_block, column_block,
           Transposed(sources, rows, slots, columns)) {}

Plan::Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
           int64_t column_block, Transposed&& transposed)
    : edges_(rows * slots * row_block * column_block),
      forward_(sources, rows, slots, columns, row_block, column_block, slots),
      backward_(transposed.sources.data(), columns, transposed.slots, rows, column_block, row_block,
                padded(transposed.slots, row_block * column_block)),
      places_(std::move(transposed.places)) {}

int Plan::useful_threads(int64_t batch, int threads) const {
  return edges_ * batch < kSerialWork ? 1 : std::max(1, threads);
}

// Weights in the order of the backward direction, blocks turned: read along the rows, one tile of
// columns after another, so that the places they are written to stay in cache.
template <class T>
const void* Plan::transposed(const void* weight, int threads) const {
  const Direction& d = forward_.direction();
  const int64_t bo = d.row_block, bi = d.column_block, cells = bo * bi;
  const int64_t stride = backward_.direction().weight_slots;
  T* result = scratch<T, kTransposed>(d.columns * stride * cells);
  const T* from = static_cast<const T*>(weight);
  const int64_t bases = (d.columns + d.base - 1) / d.base;
  const int64_t width = std::min(kMostBases, std::max<int64_t>(1, kTransposedColumns / d.base));
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
