// What the kernels of one instruction set offer, and the tables they read.
//
// A junction runs in two directions with one kernel: forward, from left to right neurons, and
// backward, on the transposed pattern. "Rows" are the block rows that are computed, "columns"
// the block columns that are read, whichever side they stand on.
#pragma once

#include <cstdint>

namespace dnc {

// Samples in one packed tile of activations for multiply: 4 vectors of 16 floats.
constexpr int64_t kBatchTile = 64;
// Samples whose packed right-hand gradients are held at once.
constexpr int64_t kGradPanel = 512;

enum class DType { float32, float64, bfloat16 };

// A batch-by-features matrix with any strides, counted in elements.
struct Matrix {
  void* data;
  int64_t batch_stride;
  int64_t feature_stride;
};

// The edges of a junction, seen in one direction and cut into tiles of columns.
struct Direction {
  int64_t rows;
  int64_t columns;
  int64_t slots;         // block slots per row, padding included
  int64_t row_block;     // neurons per block row
  int64_t column_block;  // neurons per block column
  int64_t tile;          // block columns per tile
  int64_t batch_tile;    // samples per packed tile
  int64_t tiles;
  int64_t per_tile;        // slots of every row in every tile, 0 where they differ
  const uint16_t* offset;  // column within its tile: [rows, slots]
  const int32_t* start;    // first slot of a row in a tile: [tiles + 1, rows]; null if per_tile
};

struct Kernels {
  const char* name;

  // y = x W^T + bias; weight is in direction order and of the accumulator's type (float for
  // bfloat16); bias, of the storage type, may be null.
  void (*multiply)(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
                   const void* bias, const Matrix& y, int64_t batch, int threads);

  // grad[row, slot, :, :] = sum over the batch of grad_y x; empty slots become zero.
  void (*grad_weight)(const Direction& direction, DType dtype, const Matrix& grad_y,
                      const Matrix& x, void* grad, int64_t batch, int threads);

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
