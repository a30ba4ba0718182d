// What the kernels of one instruction set offer, and the tables they read.
//
// A junction runs in two directions with one kernel: forward, from left to right neurons, and
// backward, on the transposed pattern. "Rows" are the block rows that are computed, "columns"
// the block columns that are read, whichever side they stand on.
#pragma once

#include <cstdint>

namespace dnc {

// Samples whose packed right-hand gradients are held at once.
constexpr int64_t kGradPanel = 256;

// Tiles are of at most this many base tiles, a power of two.
constexpr int64_t kMostBases = 64;

enum class DType { float32, float64, bfloat16 };

// A batch-by-features matrix with any strides, counted in elements.
struct Matrix {
  void* data;
  int64_t batch_stride;
  int64_t feature_stride;
};

// The edges of a junction, seen in one direction. Columns are cut into base tiles; the tiles that
// a kernel packs are 1, 2, 4... of them, so that one table serves every shape. Where rows are
// compact, one after another, `slots` and `weight_slots` are 0 and `start` counts from the first
// row's first slot: row * slots + start is right for all.
struct Direction {
  int64_t rows;
  int64_t columns;
  int64_t size;            // block slots of all rows, padding included
  int64_t slots;           // block slots per row, padding included; 0 in compact rows
  int64_t weight_slots;    // from one row's weights to the next's, at least slots; 0 as well
  int64_t row_block;       // neurons per block row
  int64_t column_block;    // neurons per block column
  int64_t base;            // block columns per base tile
  int64_t most_bases;      // base tiles per tile, a power of two
  int64_t per_base;        // slots of every row in every base tile, 0 where they differ
  int64_t segment;         // a multiple of every tile; offsets count from its last multiple
  const uint16_t* offset;  // column modulo segment: [size]
  const int32_t* start;  // first slot of a row in a base tile: [bases + 1, rows]; null if per_base
};

// What is done to sums on their way out.
struct Finish {
  const void* bias;  // of the storage type; may be null
  bool relu;
};

struct Kernels {
  const char* name;
  // whether bfloat16 weights are multiplied as they are, not widened to float
  bool bfloat16_products;

  // y = finish(x W^T); weight is in direction order, of the accumulator's type (float for
  // bfloat16 unless bfloat16_products). `shape` bounds the samples in a packed tile.
  void (*multiply)(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
                   const Finish& finish, const Matrix& y, int64_t batch, int64_t shape,
                   int threads);

  // The same for at most few_samples of 1x1 edges, 0 of others; weight is of the storage type.
  int64_t (*few_samples)(const Direction& direction, DType dtype);
  void (*few)(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
              const Finish& finish, const Matrix& y, int64_t batch, int threads);

  // grad_x = grad_y W for at most spread_samples of 1x1 edges, 0 of others; the direction is
  // forward and weight in its order, of the storage type.
  int64_t (*spread_samples)(const Direction& direction, DType dtype);
  void (*spread)(const Direction& direction, DType dtype, const Matrix& grad_y, const void* weight,
                 const Matrix& grad_x, int64_t batch, int threads);

  // grad[row, slot, :, :] = sum over the batch of grad_y x; empty slots become zero.
  void (*grad_weight)(const Direction& direction, DType dtype, const Matrix& grad_y,
                      const Matrix& x, void* grad, int64_t batch, int64_t shape, int threads);

  // grad_bias[output] = sum over the batch of grad_y.
  void (*sum_samples)(DType dtype, const Matrix& grad_y, void* grad_bias, int64_t outputs,
                      int64_t batch, int threads);

  // Widen bfloat16 weights to float.
  void (*widen)(const void* weight, float* result, int64_t count, int threads);
};

// Why the running processor cannot use an instruction set (null if it can), best one first.
struct InstructionSet {
  const Kernels* kernels;
  const char* (*unavailable)();
};

extern const InstructionSet kInstructionSets[];
extern const int kInstructionSetCount;

}  // namespace dnc
