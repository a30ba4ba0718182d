// y = finish(x W^T) for a few samples, bound by the bytes of the weights: lanes run along the edges
// of a row, inputs stand in shared memory as float.
//
// each block, one to a multiprocessor:
//   copy the inputs to shared memory
//   for each group of rows of a warp:
//     for each run of a lane, 4 / side cells: weights as they lie, offsets; sums += weight * x
//     add the lanes
//
// Floor: bytes of weights and offsets over the bandwidth of memory. A 1x1 edge is 3 bytes in the
// narrower types where inputs lie in banks, else 4 (n = 4096, density 1/8: 6.3 and 8.4 MB, 1.5 and
// 2.0 us at 4.3 TB/s; dense 33.5 MB, 7.8 us); a cell of 4x4 is 33 to 34. Every block reads all of
// x besides (n * samples * 2 bytes from L2: 132 * 8 KB = 1 MB a sample).
// Shared memory: 4 bytes per edge and sample, 32 lanes a clock if no two meet in a bank. A block of
// 132 gets 18.6 bytes of memory a clock, 6.2 edges, so conflicts of 3.5 (what 32 random places
// give) bind from 2 samples on, none at all from 6.
#include "lanes.cuh"
#include "launchers.cuh"

namespace dnc::cuda {

namespace {

constexpr int kWarps = 16;

// Groups of `side` rows that a warp sums up at once.
template <int side, int samples>
constexpr int kGroups = side * samples <= 4 ? 2 : 1;

// A few samples of activations with any strides.
template <class T>
struct Rows {
  const T* x;
  int64_t batch_stride, feature_stride;
  int64_t batch;
};

// Where inputs lie in shared memory: a plane for each 4 samples (or 1) and each input of a cell.
template <int side, int samples>
struct Inputs {
  static constexpr int kTogether = samples < 4 ? samples : 4;
  static constexpr int kParts = samples / kTogether;
  using Together = std::conditional_t<kTogether == 4, float4, float>;
  union Value {
    Together all;
    float each[kTogether];
  };

  __host__ __device__ static int places(const dnc_few_table& t) {
    if (t.depth == 0) return int(t.columns);
    return int(divide_up(t.columns, t.depth * kLanes) * t.depth * kLanes);
  }
  static int64_t bytes(const dnc_few_table& t) { return int64_t(places(t)) * side * samples * 4; }

  DNC_DEVICE static float* at(int places, int part, int input, int place) {
    return reinterpret_cast<float*>(shared_memory()) +
           ((part * side + input) * places + place) * kTogether;
  }
};

// Numbers side by side, read at once.
template <class T, int count>
struct alignas(sizeof(T) * count) Several {
  T each[count];
};

// Lanes copy from different banks, so that no two meet in what they write.
template <class T, int side, int samples>
DNC_DEVICE void copy_inputs(const dnc_few_table& t, const Rows<T>& rows) {
  using In = Inputs<side, samples>;
  constexpr int kRun = 4;
  const int places = In::places(t), depth = t.depth ? int(t.depth) : 1;
  const int runs = divide_up(depth, kRun);  // of a bank
  const int banks = divide_up(places / depth, kLanes) * kLanes;
  for (int run = threadIdx.x; run < banks * runs; run += blockDim.x) {
    // 32 banks at a time, and of each a run of neighbouring cells
    const int lane = run % kLanes, chunk = run / kLanes / runs;
    const int first = run / kLanes % runs * kRun;
    for (int pos = first; pos < depth && pos < first + kRun; pos++) {
      const int64_t cell = (chunk * kLanes + lane) * depth + pos;
      if (cell >= t.columns) break;
      const int place = (chunk * depth + pos) * kLanes + lane;
      // all of them at once would not fit in registers
#pragma unroll 1
      for (int input = 0; input < side; input++) {
        const T* from = rows.x + (cell * side + input) * rows.feature_stride;
#pragma unroll
        for (int p = 0; p < In::kParts; p++) {
          typename In::Value value;
#pragma unroll
          for (int j = 0; j < In::kTogether; j++) {
            const int s = p * In::kTogether + j;
            value.each[j] = s < rows.batch ? widen(from[s * rows.batch_stride]) : 0.0f;
          }
          shared_store(In::at(places, p, input, place), value.all);
        }
      }
    }
  }
}

// The weights of a run of cells of a group's row, [cell][output][input]; `here` of them exist.
template <class T, int side>
DNC_DEVICE void read_weights(const dnc_few_table& t, const T* row, int cell, int here,
                             bool together, T (&w)[4 / side][side][side]) {
  if (side == 1 && together && here == 4) {
    const auto all = *reinterpret_cast<const Several<T, 4>*>(row + cell);
#pragma unroll
    for (int k = 0; k < 4 / side; k++) w[k][0][0] = all.each[k];
    return;
  }
  const int parts = int(t.column_block) / side;
#pragma unroll
  for (int k = 0; k < 4 / side; k++) {
    if (k >= here) break;
    const int slot = (cell + k) / parts, input = (cell + k) % parts * side;
    const T* from = row + slot * t.output_block * t.column_block + input;
#pragma unroll
    for (int o = 0; o < side; o++) {
      const auto line = *reinterpret_cast<const Several<T, side>*>(from + o * t.column_block);
#pragma unroll
      for (int i = 0; i < side; i++) w[k][o][i] = line.each[i];
    }
  }
}

template <class T, int side, int samples, bool banked>
__global__ void __launch_bounds__(kWarps* kLanes, 1)
    few(dnc_few_table t, Rows<T> x, const T* weight, const T* bias, bool relu, T* y) {
  using In = Inputs<side, samples>;
  using Offset = std::conditional_t<banked, uint8_t, uint16_t>;
  constexpr int kRun = 4 / side, kAtOnce = kGroups<side, samples>;
  const int lane = threadIdx.x % kLanes, warp = uniform(threadIdx.x / kLanes);
  const int places = In::places(t);
  const int parts = int(t.output_block) / side, runs = int(t.runs);
  const int64_t groups = t.rows * parts, outputs = t.rows * t.output_block;
  const int cells = int(t.slots * t.column_block) / side;
  // rows of 1x1 edges start where 4 weights can be read at once
  const bool together = t.output_block == 1 && t.slots * t.column_block % 4 == 0;
  copy_inputs<T, side, samples>(t, x);
  __syncthreads();
  const int64_t stride = int64_t(gridDim.x) * kWarps * kAtOnce;
  for (int64_t group = (blockIdx.x * int64_t(kWarps) + warp) * kAtOnce; group < groups;
       group += stride) {
    float sum[kAtOnce][side][samples] = {};
    const T* row[kAtOnce];
    const Offset* offsets[kAtOnce];
    int count[kAtOnce];
#pragma unroll
    for (int r = 0; r < kAtOnce; r++) {
      // past the end the last group again, whose sums are dropped
      const int64_t own = smaller(group + r, groups - 1), block = own / parts;
      row[r] = weight + (block * t.slots * t.output_block + own % parts * side) * t.column_block;
      offsets[r] = static_cast<const Offset*>(t.offset) + block * t.pitch;
      count[r] = t.count[block];
    }
    for (int run = lane * runs, next = run + runs; run * kRun < cells;) {
      const int cell = run * kRun;
      const int base = run / (kLanes * runs) * int(t.depth) * kLanes + lane;
#pragma unroll
      for (int r = 0; r < kAtOnce; r++) {
        const int here = count[r] - cell;
        if (here <= 0) continue;
        const auto offset = *reinterpret_cast<const Several<Offset, kRun>*>(offsets[r] + cell);
        T w[kRun][side][side];
        read_weights<T, side>(t, row[r], cell, here < kRun ? here : kRun, together, w);
#pragma unroll
        for (int k = 0; k < kRun; k++) {
          if (k >= here) break;
          const int place = banked ? base + offset.each[k] * kLanes : offset.each[k];
#pragma unroll
          for (int i = 0; i < side; i++) {
#pragma unroll
            for (int p = 0; p < In::kParts; p++) {
              typename In::Value value;
              value.all = shared_load<typename In::Together>(In::at(places, p, i, place));
#pragma unroll
              for (int o = 0; o < side; o++) {
#pragma unroll
                for (int s = 0; s < In::kTogether; s++) {
                  float& total = sum[r][o][p * In::kTogether + s];
                  total = fmaf(widen(w[k][o][i]), value.each[s], total);
                }
              }
            }
          }
        }
      }
      // all runs of a bank, then the lane's next bank
      if (++run == next) {
        run += (kLanes - 1) * runs;
        next += kLanes * runs;
      }
    }
    constexpr int kSums = kAtOnce * side * samples;
    const float total = sum_warp<kSums>(reinterpret_cast<float (&)[kSums]>(sum), lane);
    const int sample = lane % samples, output = lane / samples % side;
    const int64_t own = group + lane / samples / side;
    if (lane < kSums && own < groups && sample < x.batch) {
      const int64_t at = own * side + output;
      const float add = bias ? widen(bias[at]) : 0.0f;
      narrow(positive(total + add, relu), &y[sample * outputs + at]);
    }
  }
}

template <class T, int side, int samples>
cudaError_t start(const dnc_few_table& t, cudaStream_t stream, const Rows<T>& x, const T* weight,
                  const T* bias, bool relu, T* y, int multiprocessors) {
  const int64_t groups = t.rows * t.output_block / side;
  const int64_t blocks =
      smaller(divide_up(groups, kWarps * kGroups<side, samples>), multiprocessors);
  const auto kernel = t.depth ? few<T, side, samples, true> : few<T, side, samples, false>;
  return launch(kernel, blocks, kWarps * kLanes, Inputs<side, samples>::bytes(t), stream, t, x,
                weight, bias, relu, y);
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int64_t dnc_cuda_few_samples(const dnc_few_table* table, int64_t shared_bytes) {
  for (int64_t samples : {8, 4, 1}) {
    if (Inputs<1, 1>::bytes(*table) * table->side * samples <= shared_bytes) return samples;
  }
  return 0;
}

int dnc_cuda_few(dnc_place place, dnc_dtype dtype, const dnc_few_table* table, const void* x,
                 int64_t batch_stride, int64_t feature_stride, const void* weight, const void* bias,
                 int relu, void* y, int64_t batch, int64_t samples, int multiprocessors) {
  return with_type(place, dtype, [&](auto type) {
    using T = decltype(type);
    return with_size(table->side, [&](auto side) {
      const int64_t outputs = table->rows * table->output_block;
      cudaError_t error = cudaSuccess;
      for (int64_t first = 0; first < batch && error == cudaSuccess; first += samples) {
        const Rows<T> rows{static_cast<const T*>(x) + first * batch_stride, batch_stride,
                           feature_stride, smaller(batch - first, samples)};
        const auto of = [&](auto count) {
          return start<T, side.value, count.value>(
              *table, stream_of(place), rows, static_cast<const T*>(weight),
              static_cast<const T*>(bias), relu != 0, static_cast<T*>(y) + first * outputs,
              multiprocessors);
        };
        error = samples == 8 ? of(Size<8>()) : samples == 4 ? of(Size<4>()) : of(Size<1>());
      }
      return error;
    });
  });
}
