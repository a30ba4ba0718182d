// The kernels as plain C: device addresses, sizes and a stream. Nothing here allocates, waits or
// reads device memory, so calls may be captured in a CUDA graph. Each returns 0 or a number that
// dnc_cuda_error_text explains.
//
// A junction runs in two directions with one kernel: forward, from left to right neurons, and
// backward, on the transposed pattern. "Outputs" are the neurons that are computed, "columns" the
// neurons that are read, whichever side they stand on.
#pragma once

#include <stdint.h>

#define DNC_CUDA_API extern "C" __attribute__((visibility("default")))

typedef enum { dnc_float32, dnc_bfloat16, dnc_float16 } dnc_dtype;

// Where a call runs.
typedef struct {
  int device;
  void* stream;
} dnc_place;

// The edges of a junction, seen in one direction: columns are cut into tiles that fit in shared
// memory, and the edges of a group of outputs in a tile, ascending, into quads, the last one filled
// up with empty edges. Quads are numbered tile by tile and, in a tile, group by group.
typedef struct {
  int64_t groups;        // of `share` consecutive outputs with the same columns
  int64_t columns;       // all of them
  int64_t tile;          // columns per tile
  int64_t share;         // 1, 2 or 4
  int64_t quads;         // in all
  int64_t most;          // quads of the fullest tile
  const int64_t* first;  // [tiles * groups + 1]: the quad at which a group's edges in a tile begin
  const uint16_t* offset;  // [quads, 4]: column within the tile, `tile` for an empty edge
  const int32_t* order;    // [quads, 4]: flat slot (row * slots + slot) of the edge's block, or -1
  const int32_t* group;    // [quads]
  // the weight of an edge is number flat * cells + output % output_block * output_step
  // + column % column_block * column_step
  int64_t cells, output_block, output_step, column_block, column_step;
} dnc_table;

// The samples that a feature's row is filled up to when it is transposed.
DNC_CUDA_API int64_t dnc_cuda_padded_batch(int64_t batch);

// The largest tile with which two blocks share a multiprocessor of so many bytes of shared memory.
DNC_CUDA_API int64_t dnc_cuda_multiply_tile(int64_t shared_bytes);
DNC_CUDA_API int64_t dnc_cuda_grad_weight_tile(dnc_dtype dtype, int64_t shared_bytes);

// What a device is: capability (major * 10 + minor), multiprocessors, bytes of shared memory of
// each.
DNC_CUDA_API int dnc_cuda_properties(int device, int* capability, int* multiprocessors,
                                     int* shared_bytes);

// out[feature][sample] = x[sample][feature], zero past the batch: [features, padded_batch].
DNC_CUDA_API int dnc_cuda_transpose(dnc_place place, dnc_dtype dtype, const void* x,
                                    int64_t batch_stride, int64_t feature_stride, int64_t batch,
                                    int64_t features, void* out);

// Weights in the order of a table, zero where it is empty: [quads, 4, share] of float.
DNC_CUDA_API int dnc_cuda_pack(dnc_place place, dnc_dtype dtype, const dnc_table* table,
                               const void* weight, float* packed);

// y = x W^T + bias, negative ones as zero with `relu`. x: [columns, padded_batch] as transposed;
// packed: as above; y: [batch, outputs], contiguous; bias may be null.
DNC_CUDA_API int dnc_cuda_multiply(dnc_place place, dnc_dtype dtype, const dnc_table* table,
                                   const void* x, const float* packed, const void* bias, int relu,
                                   void* y, int64_t batch);

// Blocks that `grad_weight` starts for each part of the batch.
DNC_CUDA_API int64_t dnc_cuda_grad_weight_blocks(const dnc_table* table);

// Gradients in the order of the weights; slots without an edge are left as they are. x and grad_y:
// transposed; the table is the forward one; partial: [splits, quads, 4, share] of float, for as
// many parts of the batch, of padded_batch / 256 at most.
DNC_CUDA_API int dnc_cuda_grad_weight(dnc_place place, dnc_dtype dtype, const dnc_table* table,
                                      const void* x, const void* grad_y, float* partial,
                                      int64_t splits, void* grad, int64_t batch);

// The same edges for a few samples, with lanes along the edges of a row. A cell is a square of side
// x side weights within a block; the cells of a block row are ordered by column.
//
// Cells of inputs lie in shared memory, one after another, or (depth > 0) in banks of `depth`
// neighbouring cells of which every block row reads equally many, 4 * runs / side: bank b then lies
// in memory bank b % 32, and lane b % 32 reads it, so that no two lanes of an access meet.
typedef struct {
  int64_t rows;  // block rows
  int64_t slots;
  int64_t output_block, column_block;
  int64_t side;          // 1, 2 or 4
  int64_t columns;       // cells of inputs, n_in / side
  int64_t pitch;         // from a row's offsets to the next's, a multiple of 4
  int64_t depth;         // of a bank, at most 256, or 0
  int64_t runs;          // of 4 / side cells of a row in a bank; 1 if depth is 0
  const void* offset;    // [rows, pitch]: place within the bank (uint8), or the cell (uint16)
  const int32_t* count;  // [rows]: cells
} dnc_few_table;

// Samples that fit at once in so much shared memory of a block: 8, 4, 1 or 0.
DNC_CUDA_API int64_t dnc_cuda_few_samples(const dnc_few_table* table, int64_t shared_bytes);

// y = x W^T + bias for a few samples; x with any strides, weight as it lies, aligned to 16 bytes.
DNC_CUDA_API int dnc_cuda_few(dnc_place place, dnc_dtype dtype, const dnc_few_table* table,
                              const void* x, int64_t batch_stride, int64_t feature_stride,
                              const void* weight, const void* bias, int relu, void* y,
                              int64_t batch, int64_t samples, int multiprocessors);

DNC_CUDA_API const char* dnc_cuda_error_text(int error);
