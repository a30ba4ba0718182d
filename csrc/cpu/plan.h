// What the kernels derive from a pattern, once: both directions, cut into tiles.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace dnc {

// A Direction that owns its tables.
class Table {
 public:
  // sources: [rows, slots], ascending in each row, -1 past its count. `tile_neurons` bounds the
  // neurons of a tile; the largest tile below it in which every row has equally many slots is
  // taken, and the largest of all where there is none.
  Table(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
        int64_t column_block, int64_t tile_neurons, int64_t batch_tile);

  const Direction& direction() const { return direction_; }

 private:
  std::vector<uint16_t> offset_;
  std::vector<int32_t> start_;
  Direction direction_{};
};

class Plan {
 public:
  // sources as in Table: [rows, slots].
  Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
       int64_t column_block);

  void forward(const Kernels& kernels, DType dtype, const Matrix& x, const void* weight,
               const void* bias, const Matrix& y, int64_t batch, int threads) const;
  void grad_input(const Kernels& kernels, DType dtype, const Matrix& grad_y, const void* weight,
                  const Matrix& grad_x, int64_t batch, int threads) const;
  void grad_weight(const Kernels& kernels, DType dtype, const Matrix& grad_y, const Matrix& x,
                   void* grad, int64_t batch, int threads) const;

 private:
  template <class T>
  void transpose_weight(const T* weight, T* result, int threads) const;
  const void* widened(const Kernels& kernels, DType dtype, const void* weight, int threads) const;
  int useful_threads(int64_t batch, int threads) const;

  // The transposed pattern: right block rows of each column's edges, ascending, -1 past its count,
  // and the forward slots they stand in.
  struct Transposed {
    Transposed(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns);
    int64_t slots;
    std::vector<int32_t> sources;
    std::vector<int32_t> targets;
  };
  Plan(const int32_t* sources, int64_t rows, int64_t slots, int64_t columns, int64_t row_block,
       int64_t column_block, Transposed&& transposed);

  int64_t edges_;
  Table forward_;
  Table backward_;
  Table gradient_;
  std::vector<int32_t> targets_;
};

}  // namespace dnc
