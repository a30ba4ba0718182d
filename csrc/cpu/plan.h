// What the kernels derive from a pattern, once: both directions, cut into base tiles.
#pragma once

#include <cstdint>
#include <vector>

#include "edges.h"
#include "kernels.h"

namespace dnc {

// A Direction that owns its tables.
class Table {
 public:
  // The base tile is the smallest of at least 32 neurons in which every row has equally many slots,
  // where there is one. Padded rows have their weights `weight_slots` apart.
  Table(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block,
        int64_t weight_slots);

  const Direction& direction() const { return direction_; }

 private:
  std::vector<uint16_t> offset_;
  std::vector<int32_t> start_;
  Direction direction_{};
};

// The functions of a junction. `shape` bounds the samples in a packed tile; 0 leaves the
// choice to the plan.
class Plan {
 public:
  Plan(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block);

  void forward(const Kernels& kernels, DType dtype, const Matrix& x, const void* weight,
               const Finish& finish, const Matrix& y, int64_t batch, int64_t shape,
               int threads) const;
  void grad_input(const Kernels& kernels, DType dtype, const Matrix& grad_y, const void* weight,
                  const Matrix& grad_x, int64_t batch, int64_t shape, int threads) const;
  void grad_weight(const Kernels& kernels, DType dtype, const Matrix& grad_y, const Matrix& x,
                   void* grad, int64_t batch, int64_t shape, int threads) const;
  // All gradients, each as its own function gives it, with kernels and shape of its own; grad_bias
  // [rows * row_block], the sum of grad_y over the batch, may be null.
  void backward(const Kernels& input_kernels, int64_t input_shape, const Kernels& weight_kernels,
                int64_t weight_shape, DType dtype, const Matrix& grad_y, const Matrix& x,
                const void* weight, const Matrix& grad_x, void* grad_weight, void* grad_bias,
                int64_t batch, int threads) const;

 private:
  template <class T>
  const void* transposed(const void* weight, int threads) const;
  template <class T>
  void gather_transposed(const T* from, T* result, int threads) const;
  const void* products(const Kernels& kernels, DType dtype, const void* weight, int threads) const;
  int useful_threads(int64_t batch, int threads) const;

  // The transposed pattern: right block rows of each column's edges, padded or compact. Where each
  // edge's weight is found: padded, which of its column's edges an edge is; compact, the edges of
  // the forward direction in the order of the backward one.
  struct Transposed {
    Transposed(const Edges& edges, int64_t columns);
    Edges edges() const;
    int64_t columns, slots;
    std::vector<int64_t> starts;
    std::vector<int32_t> sources;
    std::vector<uint16_t> places;
    std::vector<int32_t> origins;
  };
  Plan(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block,
       Transposed&& transposed);

  int64_t edges_;
  Table forward_;
  Table backward_;
  std::vector<uint16_t> places_;
  std::vector<int32_t> origins_;
};

}  // namespace dnc
