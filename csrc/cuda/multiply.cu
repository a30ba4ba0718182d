// y = finish(x W^T), in the forward direction and, on the transposed pattern, for grad_input.
//
// for each block (a tile of samples x a chunk of outputs), two to a multiprocessor:
//   for each tile of columns:
//     copy the tile of x to shared memory             the other block computes meanwhile
//     for each group of outputs of a warp: sums in registers
//       for each quad of edges: offsets and weights, the same for all lanes
//         4 reads of 16 bytes of x; sums += weight * x
//
// Floor, per edge and 32 samples, on a multiprocessor that reads 128 bytes of shared memory and
// makes 128 multiply-adds per clock: float32 reads 128 bytes, 1 clock, and multiplies for 1/4 of
// one, so 1x1 edges stay below a quarter of the peak (16.7 of 66.9 TFLOP/s). Offsets and weights
// are 2 more accesses per 4 edges and 128 samples (16 accesses): 14.9. With `share` outputs on each
// column x is read once for all of them: about 50 TFLOP/s at 4. The narrower types read half the
// bytes. From L2 comes a tile's x once per 128 outputs: 4 bytes per 128 * density multiply-adds,
// that is 8 bytes per clock at density 1/8 and 16 at 1/16 where the whole chip can have about 30.
#include "table.cuh"

namespace dnc::cuda {

namespace {

constexpr int kWarps = 8;
// Sums that a lane holds.
constexpr int kSums = 64;

template <class T>
using Tile = SampleTile<T, 1>;

template <class T>
constexpr int kOutputs = kSums / kVector<T>;  // of a warp

// Sums of one group over the edges of quads [quad, last); x is the lane's part of the tile.
template <class T, int share>
DNC_DEVICE void add_edges(const dnc_table& table, int64_t quad, int64_t last, const float* packed,
                          const unsigned char* x, float (*sum)[kVector<T>]) {
  for (; quad < last; quad++) {
    uint32_t columns[4];
    quad_columns(table, quad, columns);
    float4 weight[share];
#pragma unroll
    for (int i = 0; i < share; i++) {
      weight[i] = reinterpret_cast<const float4*>(packed)[quad * share + i];
    }
    const float* w = &weight[0].x;
#pragma unroll
    for (int e = 0; e < 4; e++) {
      float values[kVector<T>];
      widen<T>(shared_load<uint4>(x + columns[e] * Tile<T>::kBytes), values);
#pragma unroll
      for (int g = 0; g < share; g++) {
#pragma unroll
        for (int v = 0; v < kVector<T>; v++) {
          sum[g][v] = fmaf(w[e * share + g], values[v], sum[g][v]);
        }
      }
    }
  }
}

// Write a lane's sums: outputs [first, first + kOutputs) of those there are, of `here` samples.
template <class T>
DNC_DEVICE void write(const float (&sum)[kOutputs<T>][kVector<T>], const T* bias, bool relu, T* y,
                      int64_t first, int64_t outputs, int64_t here) {
  constexpr int kCount = kVector<T>;
#pragma unroll
  for (int part = 0; part < kOutputs<T>; part += kCount) {
    const int64_t output = first + part;
    // rows of y start at multiples of 16 bytes if the row's length is one
    const bool whole = outputs % kCount == 0 && output < outputs;
    float add[kCount];
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      add[i] = bias && output + i < outputs ? widen(bias[output + i]) : 0.0f;
    }
#pragma unroll
    for (int v = 0; v < kVector<T>; v++) {
      if (v >= here) break;
      T* to = y + v * outputs + output;
      union {
        T each[kCount];
        uint4 all;
      } result;
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        narrow(positive(sum[part + i][v] + add[i], relu), &result.each[i]);
      }
      if (whole) {
        *reinterpret_cast<uint4*>(to) = result.all;
      } else {
#pragma unroll
        for (int i = 0; i < kCount; i++) {
          if (output + i < outputs) to[i] = result.each[i];
        }
      }
    }
  }
}

template <class T, int share>
__global__ void __launch_bounds__(kWarps* kLanes, 2)
    multiply(dnc_table table, const T* x, const float* packed, const T* bias, bool relu, T* y,
             int64_t batch, int64_t padded) {
  constexpr int kGroups = kOutputs<T> / share;
  const int lane = threadIdx.x % kLanes, warp = uniform(threadIdx.x / kLanes);
  const int64_t chunks = divide_up(table.groups, kGroups * kWarps);
  const int64_t sample = blockIdx.x / chunks * Tile<T>::kSamples;
  const int64_t group = (blockIdx.x % chunks * kWarps + warp) * kGroups;
  const int64_t here = smaller(table.groups - group, kGroups);
  float sum[kOutputs<T>][kVector<T>] = {};
  Tile<T>::clear_empty(table.tile);
  const int64_t* first = table.first + group;
  for (int64_t column = 0; column < table.columns; column += table.tile, first += table.groups) {
    __syncthreads();
    Tile<T>::fill(x, padded, sample, column, smaller(column + table.tile, table.columns));
    __syncthreads();
#pragma unroll
    for (int g = 0; g < kGroups; g++) {
      if (g < here) {
        add_edges<T, share>(table, first[g], first[g + 1], packed, shared_memory() + lane * 16,
                            sum + g * share);
      }
    }
  }
  const int64_t at = sample + lane * kVector<T>, outputs = table.groups * share;
  write<T>(sum, bias, relu, y + at * outputs, group * share, outputs, batch - at);
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int64_t dnc_cuda_multiply_tile(int64_t shared_bytes) {
  return largest_tile<Tile<float>>(shared_bytes);
}

int dnc_cuda_multiply(dnc_place place, dnc_dtype dtype, const dnc_table* table, const void* x,
                      const float* packed, const void* bias, int relu, void* y, int64_t batch) {
  return with_type(place, dtype, [&](auto type) {
    using T = decltype(type);
    return with_size(table->share, [&](auto share) {
      constexpr int kGroups = kOutputs<T> / share.value;
      const int64_t blocks =
          divide_up(batch, Tile<T>::kSamples) * divide_up(table->groups, kGroups * kWarps);
      return launch(multiply<T, share.value>, blocks, kWarps * kLanes,
                    Tile<T>::shared_bytes(table->tile), stream_of(place), *table,
                    static_cast<const T*>(x), packed, static_cast<const T*>(bias), relu != 0,
                    static_cast<T*>(y), batch, padded_batch(batch));
    });
  });
}
