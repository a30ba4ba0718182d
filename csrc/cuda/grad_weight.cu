// The gradient of each edge's weight: grad_y[:, output] . x[:, column].
//
// for each block (a tile of columns x a chunk of its quads x a part of the batch), two to a
// multiprocessor:
//   for each tile of samples:
//     copy the tile of x to shared memory
//     for each step of a warp, 32 weights: sums in registers
//       grad_y of a group of outputs                       from L1 and L2, when the group changes
//       for each edge: reads of 16 bytes of x; sums += grad_y * x
//       add the lanes of all 32 sums: 31 shuffles, then a lane holds a weight's gradient
//       add it to its place in `partial`                   the same thread each time
// then add the parts of the batch in order, and write them where the weights lie.
//
// Floor: as in multiply.cu, 128 bytes of shared memory per edge and 32 samples. Beside it, for 256
// samples: 31 / 32 of a shuffle per weight (1 access to 8 of x in float32), and 8 accesses for a
// group's grad_y, shared among its edges in the tile (14 of them at density 1/8). So at most 16.7 *
// 8 / 9.5 = 14 TFLOP/s in float32. More samples in a tile would leave fewer columns and groups of
// fewer edges; fewer, more shuffles.
#include "lanes.cuh"
#include "table.cuh"

namespace dnc::cuda {

namespace {

constexpr int kWarps = 8;
// Weights whose gradients a warp sums up at once, one for each lane to keep.
constexpr int kStep = kLanes;
// Quads of a block: enough that filling its tile is a small part of its work.
constexpr int kChunk = 512;

// Two accesses of 16 bytes for a float's samples, one for the narrower types'.
template <class T>
constexpr int kPieces = int(kSamplePad) / kLanes / kVector<T>;

template <class T>
using Tile = SampleTile<T, kPieces<T>>;

// A lane's samples of one column or output, as they lie in memory: widened where they are used, for
// registers are short.
template <class T>
struct Samples {
  uint4 raw[kPieces<T>];
};

template <class T>
DNC_DEVICE float dot(const Samples<T>& a, const Samples<T>& b) {
  float sum = 0;
#pragma unroll
  for (int p = 0; p < kPieces<T>; p++) {
    float left[kVector<T>], right[kVector<T>];
    widen<T>(a.raw[p], left);
    widen<T>(b.raw[p], right);
#pragma unroll
    for (int v = 0; v < kVector<T>; v++) sum = fmaf(left[v], right[v], sum);
  }
  return sum;
}

template <class T, int share>
__global__ void __launch_bounds__(kWarps* kLanes, 2)
    edge_gradients(dnc_table table, const T* x, const T* grad_y, float* partial, int64_t chunks,
                   int64_t splits, int64_t padded) {
  constexpr int kWeights = 4 * share, kQuads = kStep / kWeights;  // of a quad; of a step
  const int lane = threadIdx.x % kLanes, warp = uniform(threadIdx.x / kLanes);
  const int64_t tiles = divide_up(table.columns, table.tile);
  const int64_t tile = blockIdx.x / chunks % tiles, split = blockIdx.x / chunks / tiles;
  const int64_t first = table.first[tile * table.groups] + blockIdx.x % chunks * kChunk;
  const int64_t last = smaller(first + kChunk, table.first[(tile + 1) * table.groups]);
  if (first >= last) return;
  // each warp takes neighbouring quads, most of which share their group
  const int64_t per_warp = divide_up(last - first, kWarps * kQuads) * kQuads;
  const int64_t warp_first = smaller(first + warp * per_warp, last);
  const int64_t warp_last = smaller(warp_first + per_warp, last);
  const int64_t sample_tiles = padded / kSamplePad;
  const int64_t first_sample = sample_tiles * split / splits * kSamplePad;
  const int64_t last_sample = sample_tiles * (split + 1) / splits * kSamplePad;
  const int64_t column = tile * table.tile;
  const unsigned char* from = shared_memory() + lane * 16;
  partial += split * table.quads * kWeights;
  Tile<T>::clear_empty(table.tile);
  for (int64_t sample = first_sample; sample < last_sample; sample += kSamplePad) {
    __syncthreads();
    Tile<T>::fill(x, padded, sample, column, smaller(column + table.tile, table.columns));
    __syncthreads();
    int held = -1;
    Samples<T> outputs[share] = {};
    for (int64_t quad = warp_first; quad < warp_last; quad += kQuads) {
      float part[kQuads];
#pragma unroll
      for (int q = 0; q < kQuads; q++) {
        // past the end the last quad again, whose sums are dropped
        const int64_t at = smaller(quad + q, last - 1);
        const int group = table.group[at];
        if (group != held) {
          held = group;
#pragma unroll
          for (int g = 0; g < share; g++) {
            const T* row = grad_y + (int64_t(group) * share + g) * padded + sample;
#pragma unroll
            for (int p = 0; p < kPieces<T>; p++) {
              outputs[g].raw[p] = reinterpret_cast<const uint4*>(row)[p * kLanes + lane];
            }
          }
        }
        uint32_t columns[4];
        quad_columns(table, at, columns);
        float sum[kWeights];
#pragma unroll
        for (int e = 0; e < 4; e++) {
          Samples<T> input;
#pragma unroll
          for (int p = 0; p < kPieces<T>; p++) {
            input.raw[p] =
                shared_load<uint4>(from + columns[e] * Tile<T>::kBytes + p * kLanes * 16);
          }
#pragma unroll
          for (int g = 0; g < share; g++) {
            sum[e * share + g] = dot(outputs[g], input);
          }
        }
        part[q] = sum_lanes<kWeights, 1>(sum, lane);
      }
      const float gradient = sum_lanes<kQuads, kWeights>(part, lane);
      const int64_t place = quad * kWeights + lane;
      if (place < warp_last * kWeights) {
        partial[place] = gradient + (sample == first_sample ? 0.0f : partial[place]);
      }
    }
  }
}

// A warp per group and tile.
constexpr int kCollectWarps = 8;

template <class T>
__global__ void collect(dnc_table table, int64_t units, const float* partial, int64_t splits,
                        T* grad) {
  const int64_t unit = blockIdx.x * int64_t(kCollectWarps) + threadIdx.x / kLanes;
  if (unit >= units) return;
  const Cell cell(table, unit);
  const int64_t share = table.share, last = table.first[unit + 1] * 4 * share;
  for (int64_t i = table.first[unit] * 4 * share + threadIdx.x % kLanes; i < last; i += kLanes) {
    const int64_t at = cell.weight(i);
    if (at < 0) continue;
    float sum = partial[i];
    for (int64_t s = 1; s < splits; s++) sum += partial[s * table.quads * 4 * share + i];
    narrow(sum, &grad[at]);
  }
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int64_t dnc_cuda_grad_weight_tile(dnc_dtype dtype, int64_t shared_bytes) {
  return dtype == dnc_float32 ? largest_tile<Tile<float>>(shared_bytes)
                              : largest_tile<Tile<Half>>(shared_bytes);
}

int64_t dnc_cuda_grad_weight_blocks(const dnc_table* table) {
  return tiles(*table) * divide_up(table->most, int64_t(kChunk));
}

int dnc_cuda_grad_weight(dnc_place place, dnc_dtype dtype, const dnc_table* table, const void* x,
                         const void* grad_y, float* partial, int64_t splits, void* grad,
                         int64_t batch) {
  return with_type(place, dtype, [&](auto type) {
    using T = decltype(type);
    const cudaError_t error = with_size(table->share, [&](auto share) {
      return launch(edge_gradients<T, share.value>, dnc_cuda_grad_weight_blocks(table) * splits,
                    kWarps * kLanes, Tile<T>::shared_bytes(table->tile), stream_of(place), *table,
                    static_cast<const T*>(x), static_cast<const T*>(grad_y), partial,
                    divide_up(table->most, int64_t(kChunk)), splits, padded_batch(batch));
    });
    if (error != cudaSuccess) return error;
    const int64_t units = tiles(*table) * table->groups;
    return launch(collect<T>, divide_up(units, kCollectWarps), kCollectWarps * kLanes, 0,
                  stream_of(place), *table, units, partial, splits, static_cast<T*>(grad));
  });
}
