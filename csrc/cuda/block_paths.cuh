// What blocks.cu asks of a path: hopper.cu and portable.cu.
#pragma once

#include "blocks.h"
#include "launchers.cuh"

namespace dnc::cuda {

// Samples that are `stride` elements apart.
struct Samples {
  const void* data;
  int64_t stride;
};

struct BlockTask {
  const dnc_blocks& blocks;
  int multiprocessors;
  cudaStream_t stream;
  int64_t batch;
};

// How a path splits the batch of grad_weight, and in how many rows per split it sums grad_bias.
struct Splits {
  int count;
  int bias_parts;
};

// Where a path leaves its sums: [splits, rows * slots, b, b] and [splits * bias_parts, n_out]; the
// second is null when not asked for.
struct Partials {
  float* weight;
  float* bias;
};

Splits hopper_splits(const dnc_blocks& blocks, int multiprocessors, int64_t batch);
Splits portable_splits(const dnc_blocks& blocks, int multiprocessors, int64_t batch);

// out = finish(from W^T), or from W when transposed.
template <class T>
cudaError_t hopper_multiply(const BlockTask& task, bool transposed, Samples from,
                            const void* weight, const void* bias, bool relu, void* out);
template <class T>
cudaError_t portable_multiply(const BlockTask& task, bool transposed, Samples from,
                              const void* weight, const void* bias, bool relu, void* out);

// Partial sums of grad_weight and grad_bias, and grad_x unless it is null.
template <class T>
cudaError_t hopper_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                            void* grad_x, const Splits& splits, const Partials& partials);
template <class T>
cudaError_t portable_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                              void* grad_x, const Splits& splits, const Partials& partials);

}  // namespace dnc::cuda
