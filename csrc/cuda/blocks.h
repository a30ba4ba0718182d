// Junctions of 64 x 64 or 128 x 128 blocks on a Hopper GPU's tensor cores, as plain C (see api.h):
// 16-bit activations and weights, sums in float. Every right block row has `slots` blocks and every
// left block column `degree`, at least one. Features are contiguous; samples are `stride` elements
// apart. Capability 9.0, addresses that are multiples of 16 bytes, strides of 8 elements.
#pragma once

#include "api.h"

typedef struct {
  int64_t block;            // 64 or 128
  int64_t rows, slots;      // right block rows, blocks of each
  int64_t columns, degree;  // left block columns, blocks of each
  const int32_t* sources;   // [rows, slots]: left block column
  const int32_t* targets;   // [columns, degree]: row * slots + slot
} dnc_blocks;

// y = x W^T + bias, negative ones as zero with `relu`; bias may be null, y is contiguous.
DNC_CUDA_API int dnc_blocks_forward(dnc_place place, dnc_dtype dtype, int multiprocessors,
                                    const dnc_blocks* blocks, const void* x, int64_t x_stride,
                                    const void* weight, const void* bias, int relu, void* y,
                                    int64_t batch);

// grad_x = grad_y W, contiguous.
DNC_CUDA_API int dnc_blocks_grad_input(dnc_place place, dnc_dtype dtype, int multiprocessors,
                                       const dnc_blocks* blocks, const void* grad_y,
                                       int64_t grad_y_stride, const void* weight, void* grad_x,
                                       int64_t batch);

// All gradients; grad_bias may be null, grad_x too, then weight as well. `workspace` holds
// dnc_blocks_workspace_bytes. The batch is split by multiprocessors alone, so that results repeat
// bit by bit on devices of one size.
DNC_CUDA_API int dnc_blocks_backward(dnc_place place, dnc_dtype dtype, int multiprocessors,
                                     const dnc_blocks* blocks, const void* grad_y,
                                     int64_t grad_y_stride, const void* x, int64_t x_stride,
                                     const void* weight, void* grad_x, void* grad_weight,
                                     void* grad_bias, void* workspace, int64_t batch);

DNC_CUDA_API int64_t dnc_blocks_workspace_bytes(int multiprocessors, const dnc_blocks* blocks,
                                                int64_t batch);
