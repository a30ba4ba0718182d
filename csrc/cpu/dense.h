// Weights written into a dense matrix and gradients read out of one, for products that dense
// arithmetic does faster.
#pragma once

#include <cstdint>

#include "edges.h"
#include "masked.h"

namespace dnc {

// Where the edges of a junction lie in a dense [rows * row_block, columns * column_block] matrix of
// numbers of `item_bytes`.
struct Places {
  Edges edges;
  int64_t columns, row_block, column_block, item_bytes;
};

// Write weights [edges, row_block, column_block] into a dense matrix, zeros elsewhere.
void scatter(const Places& places, const void* weight, void* dense, int threads);
// Read them out of one, zeros into empty slots.
void gather(const Places& places, const void* dense, void* weight, int threads);
// The same by masks, for processors with AVX-512 VBMI2, numbers of 2 or 4 bytes, and one right
// neuron per block row.
void scatter(const Masks& masks, int64_t item_bytes, const void* weight, void* dense, int threads);
void gather(const Masks& masks, int64_t item_bytes, const void* dense, void* weight, int threads);

}  // namespace dnc
