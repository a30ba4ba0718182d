// y = finish(x W^T) for a few samples, bound by the bytes of the weights: lanes run along the edges
// of a row, inputs stand in shared memory as float.
//
// each block, one to a multiprocessor:
//   for each group of rows of a warp:
//     for each 64 to 128 bytes of weights of a lane, as they lie:
//       ask for them and their offsets
//       before the first: copy the inputs to shared memory
//       sums += weights * inputs
//     add the lanes
//
// Floor: bytes of weights and offsets over the bandwidth of memory. A 1x1 edge is 3 bytes in the
// narrower types where inputs lie in banks, else 4 (n = 4096, density 1/8: 6.3 and 8.4 MB, 1.5 and
// 2.0 us at 4.3 TB/s; dense 33.5 MB, 7.8 us); a cell of 4x4 is 33 to 34. At 0.8 us from memory
// that rate takes 26 KB in flight per multiprocessor: 512 lanes that ask for 64 bytes each.
// Every block reads all of x besides (n * samples * 2 bytes from L2: 132 * 8 KB = 1 MB a sample).
// Shared memory: 4 bytes per edge and sample, 32 lanes a clock if no two meet in a bank. A block of
// 132 gets 18.6 bytes of memory a clock, 6.2 edges, so conflicts of 3.5 (what 32 random places
// give) bind from 2 samples on, none at all from 6.
#include "lanes.cuh"
#include "launchers.cuh"

namespace dnc::cuda {

namespace {

constexpr int kWarps = 16;
// Groups of `side` rows that a warp sums up at once.
template <int side>
constexpr int kGroups = side == 1 ? 2 : 1;
// Runs of each that a lane asks for at once, 64 or 128 bytes of weights; 32 sums leave few
// registers.
template <class T, int side, int samples>
constexpr int kRuns = (side * samples < 32 ? 8 : 4) / int(sizeof(T));

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

// Numbers side by side, read at once and not taken apart before one of them is needed.
template <class T, int count>
struct Packed {
  static constexpr int kBytes = count * sizeof(T);
  using Small = std::conditional_t<kBytes == 1, uint8_t, uint16_t>;
  using Large = std::conditional_t<kBytes == 8, uint2, uint4>;
  using Bits =
      std::conditional_t<kBytes <= 2, Small, std::conditional_t<kBytes == 4, uint32_t, Large>>;
  Bits bits{};

  DNC_DEVICE void read(const T* from) { bits = *reinterpret_cast<const Bits*>(from); }
  DNC_DEVICE T operator[](int i) const {
    T each[count];
    memcpy(each, &bits, kBytes);
    return each[i];
  }
  DNC_DEVICE void set(int i, T value) {
    T each[count];
    memcpy(each, &bits, kBytes);
    each[i] = value;
    memcpy(&bits, each, kBytes);
  }
};

// Copy `count` neighbouring features at a time, and several of those, so that few loads wait for
// others. Lanes copy from different banks, so that no two meet in what they write.
template <int count, class T, int side, int samples>
DNC_DEVICE void copy_features(const dnc_few_table& t, const Rows<T>& rows) {
  using In = Inputs<side, samples>;
  constexpr int kEach = count * samples, kTurns = kEach < 4 ? 4 : kEach < 8 ? 2 : 1;
  const int places = In::places(t), lane = threadIdx.x % kLanes;
  const int bank = (t.depth ? int(t.depth) : 1) * side;                 // features
  const int features = divide_up(places * side, bank * kLanes) * bank;  // of a lane
  for (int first = threadIdx.x / kLanes * count; first < features;
       first += kTurns * kWarps * count) {
    Packed<T, count> x[kTurns][samples];
    bool here[kTurns];
#pragma unroll
    for (int u = 0; u < kTurns; u++) {
      const int at = first + u * kWarps * count;
      const int64_t feature = at + (at / bank * (kLanes - 1) + lane) * bank;
      here[u] = at < features && feature < t.columns * side;
#pragma unroll
      for (int s = 0; s < samples; s++) {
        if (!here[u] || s >= rows.batch) continue;
        x[u][s].read(rows.x + s * rows.batch_stride + feature * rows.feature_stride);
      }
    }
#pragma unroll
    for (int u = 0; u < kTurns; u++) {
      if (!here[u]) continue;
#pragma unroll
      for (int f = 0; f < count; f++) {
        const int at = first + u * kWarps * count + f;
#pragma unroll
        for (int p = 0; p < In::kParts; p++) {
          typename In::Value value;
#pragma unroll
          for (int j = 0; j < In::kTogether; j++) {
            value.each[j] = widen(x[u][p * In::kTogether + j][f]);
          }
          shared_store(In::at(places, p, at % side, at / side * kLanes + lane), value.all);
        }
      }
    }
  }
}

template <class T, int side, int samples, bool banked>
DNC_DEVICE void copy_inputs(const dnc_few_table& t, const Rows<T>& rows) {
  constexpr int kCount = banked ? 4 : side;
  if (rows.feature_stride == 1 && rows.batch_stride % kCount == 0 &&
      uintptr_t(rows.x) % (kCount * sizeof(T)) == 0 && t.depth * side % kCount == 0) {
    copy_features<kCount, T, side, samples>(t, rows);
  } else {
    copy_features<1, T, side, samples>(t, rows);
  }
}

// The weights of a run of cells of a group's row, as they lie: [cell][output][input].
template <class T, int side>
struct Weights {
  static constexpr int kLine = side == 1 ? 4 : side;  // side by side
  Packed<T, kLine> lines[4 / kLine][side];

  DNC_DEVICE void read(const dnc_few_table& t, const T* row, int cell, int cells) {
    // rows of 1x1 edges start where 4 weights can be read at once
    if (side == 1 && t.output_block == 1 && cells % 4 == 0) return lines[0][0].read(row + cell);
    const int parts = int(t.column_block) / side;
#pragma unroll
    for (int k = 0; k < 4 / side; k++) {
      if (cell + k >= cells) break;
      const int slot = (cell + k) / parts, input = (cell + k) % parts * side;
      const T* from = row + slot * t.output_block * t.column_block + input;
#pragma unroll
      for (int o = 0; o < side; o++) {
        if constexpr (side == 1) {
          lines[0][0].set(k, *from);
        } else {
          lines[k][o].read(from + o * t.column_block);
        }
      }
    }
  }
  DNC_DEVICE float at(int cell, int output, int input) const {
    return widen(side == 1 ? lines[0][0][cell] : lines[cell % (4 / kLine)][output][input]);
  }
};

template <class T, int side, int samples, bool banked>
__global__ void __launch_bounds__(kWarps* kLanes, 1)
    few(dnc_few_table t, Rows<T> x, const T* weight, const T* bias, bool relu, T* y) {
  using In = Inputs<side, samples>;
  using Offset = std::conditional_t<banked, uint8_t, uint16_t>;
  constexpr int kRun = 4 / side, kAtOnce = kGroups<side>;
  constexpr int kAhead = kRuns<T, side, samples>;
  const int lane = threadIdx.x % kLanes, warp = uniform(threadIdx.x / kLanes);
  const int places = In::places(t), depth = int(t.depth), runs = int(t.runs);
  const int parts = int(t.output_block) / side, groups = int(t.rows) * parts;
  const int cells = int(t.slots * t.column_block) / side;
  const int64_t outputs = t.rows * t.output_block;
  const int start = (blockIdx.x * kWarps + warp) * kAtOnce;
  int group = start;
  // all warps once, for each copies inputs
  do {
    float sum[kAtOnce][side][samples] = {};
    const T* row[kAtOnce];
    const Offset* offsets[kAtOnce];
    int count[kAtOnce];
#pragma unroll
    for (int r = 0; r < kAtOnce; r++) {
      // past the end the last group again, whose sums are dropped
      const int read = int(smaller(group + r, groups - 1)), block = read / parts;
      row[r] = weight + (block * t.slots * t.output_block + read % parts * side) * t.column_block;
      offsets[r] = static_cast<const Offset*>(t.offset) + block * t.pitch;
      count[r] = t.count[block];
    }
    // all runs of a bank, then the lane's next bank; lane 0 has the most
    for (int bank = 0, run = 0; (bank * kLanes * runs + run) * kRun < cells;) {
      Weights<T, side> w[kAhead][kAtOnce];
      Packed<Offset, kRun> offset[kAhead][kAtOnce];
      int cell[kAhead], base[kAhead];
      const bool first = group == start && bank == 0 && run == 0;
#pragma unroll
      for (int i = 0; i < kAhead; i++) {
        cell[i] = ((bank * kLanes + lane) * runs + run) * kRun;
        base[i] = bank * depth * kLanes + lane;
        if (++run == runs) run = 0, bank++;
        if (cell[i] >= cells) continue;
#pragma unroll
        for (int r = 0; r < kAtOnce; r++) {
          offset[i][r].read(offsets[r] + cell[i]);
          w[i][r].read(t, row[r], cell[i], cells);
        }
      }
      if (first) {
        copy_inputs<T, side, samples, banked>(t, x);
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kAhead; i++) {
#pragma unroll
        for (int r = 0; r < kAtOnce; r++) {
          const auto multiply = [&](int k) {
            const int place = banked ? base[i] + offset[i][r][k] * kLanes : int(offset[i][r][k]);
#pragma unroll
            for (int j = 0; j < side; j++) {
#pragma unroll
              for (int p = 0; p < In::kParts; p++) {
                typename In::Value value;
                value.all = shared_load<typename In::Together>(In::at(places, p, j, place));
#pragma unroll
                for (int o = 0; o < side; o++) {
#pragma unroll
                  for (int s = 0; s < In::kTogether; s++) {
                    float& total = sum[r][o][p * In::kTogether + s];
                    total = fmaf(w[i][r].at(k, o, j), value.each[s], total);
                  }
                }
              }
            }
          };
          // a run without branches, so that it waits for shared memory once
          const int here = count[r] - cell[i];
          if (here >= kRun) {
#pragma unroll
            for (int k = 0; k < kRun; k++) multiply(k);
          } else {
#pragma unroll
            for (int k = 0; k < kRun - 1; k++) {
              if (k < here) multiply(k);
            }
          }
        }
      }
    }
    constexpr int kSums = kAtOnce * side * samples;
    const float total = sum_warp<kSums>(reinterpret_cast<float (&)[kSums]>(sum), lane);
    const int sample = lane % samples, output = lane / samples % side;
    const int written = group + lane / samples / side;
    if (lane < kSums && written < groups && sample < x.batch) {
      const int64_t at = int64_t(written) * side + output;
      const float add = bias ? widen(bias[at]) : 0.0f;
      narrow(positive(total + add, relu), &y[sample * outputs + at]);
    }
    group += int(gridDim.x) * kWarps * kAtOnce;
  } while (group < groups);
}

template <class T, int side, int samples>
cudaError_t start(const dnc_few_table& t, cudaStream_t stream, const Rows<T>& x, const T* weight,
                  const T* bias, bool relu, T* y, int multiprocessors) {
  const int64_t groups = t.rows * t.output_block / side;
  const int64_t blocks = smaller(divide_up(groups, kWarps * kGroups<side>), multiprocessors);
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
