// Junctions of bfloat16 as dense tiles that exist in registers and caches only: one bit per pair of
// neurons tells where the edges are, and weights are spread by it while they are multiplied.
#pragma once

#include <cstdint>
#include <vector>

#include "edges.h"
#include "kernels.h"

namespace dnc {

// Columns that one mask covers, and a multiple of all numbers of rows.
constexpr int64_t kMaskColumns = 32;

// Where a junction's edges are, as bits, and where their weights are.
class Masks {
 public:
  Masks(const Edges& edges, int64_t columns, int64_t row_block, int64_t column_block);

  // Whether weights of such blocks can be spread: those of a right neuron lie side by side, or its
  // blocks do not straddle masks.
  static bool serves(int64_t row_block, int64_t column_block) {
    return row_block == 1 || kMaskColumns % column_block == 0;
  }

  int64_t outputs() const { return rows_ * row_block_; }
  int64_t inputs() const { return inputs_; }
  // masks of 32 left neurons each, and right neurons in each column of masks
  int64_t mask_columns() const { return (inputs_ + kMaskColumns - 1) / kMaskColumns; }
  int64_t mask_rows() const { return (outputs() + kMaskColumns - 1) / kMaskColumns * kMaskColumns; }
  // The masks of 32 left neurons, for all right ones; none has a bit past the last neuron.
  const uint32_t* column(int64_t at) const { return masks_.data() + at * mask_rows(); }

  // Weights that one bit stands for: one, or of each block its neurons' `run`.
  bool by_runs() const { return row_block_ > 1; }
  uint32_t run() const { return by_runs() ? ~0u >> (32 - column_block_) : 1; }
  // from the weights of one bit to those of the next of the same neuron
  int64_t step() const { return by_runs() ? row_block_ * column_block_ : 1; }
  // where a right neuron's weights begin; those past the last one begin where it does
  int64_t first_weight(int64_t output) const;
  int64_t weights() const { return size_ * row_block_ * column_block_; }
  bool has_empty_slots() const { return empty_slots_; }

 private:
  int64_t rows_, slots_, size_, inputs_, row_block_, column_block_;
  std::vector<int64_t> starts_;  // of compact rows
  bool empty_slots_ = false;
  std::vector<uint32_t> masks_;
};

// The functions of a junction of bfloat16 on tensors of any strides; results and weights are
// contiguous. As in dense arithmetic, infinities and NaN of one neuron reach all.
struct MaskedKernels {
  // y = finish(x W^T)
  void (*forward)(const Masks& masks, const Matrix& x, const void* weight, const Finish& finish,
                  void* y, int64_t batch, int threads);
  // grad_x = grad_y W
  void (*grad_input)(const Masks& masks, const Matrix& grad_y, const void* weight, void* grad_x,
                     int64_t batch, int threads);
  // grad = the edges' share of grad_y^T x, zero in empty slots
  void (*grad_weight)(const Masks& masks, const Matrix& grad_y, const Matrix& x, void* grad,
                      int64_t batch, int threads);
};

// Weights written into a dense [outputs, inputs] matrix by masks, and gradients read out of one;
// numbers of 2 or 4 bytes, not by runs.
struct MaskedMoves {
  // zeros elsewhere
  void (*scatter)(const Masks& masks, const void* weight, void* dense, int64_t item_bytes,
                  int threads);
  // zeros into empty slots
  void (*gather)(const Masks& masks, const void* dense, void* weight, int64_t item_bytes,
                 int threads);
};

// Why AMX cannot be used here; null if it can. Asks the system for the use of its registers.
const char* amx_unavailable();
// The kernels that use it; null where they were not compiled.
const MaskedKernels* amx_kernels();

// The same for the instructions that expand and compress vectors of 16-bit numbers.
const char* vbmi2_unavailable();
const MaskedMoves* vbmi2_moves();

}  // namespace dnc
