// y = finish(x W^T), or grad_x = grad_y W, on Hopper: copies ahead of the tensor cores.
//
// | name     | meaning                                                                           |
// |----------|-----------------------------------------------------------------------------------|
// | b        | edge of a weight block: 64 or 128 features                                        |
// | output   | a block of b features of the result: a right block row forward, a left block      |
// |          | column transposed                                                                 |
// | term     | one weight block that an output sums over: a slot, or a target when transposed    |
// | chunk    | 64 of the b features that a term sums over: what one stage of the ring holds      |
// | unit     | one output for 256 samples; all are equal, so blocks take every gridDim-th        |
// | resident | the weights of the output stay in shared memory and only x streams                |
//
// One warpgroup copies, two multiply, 128 samples each. Units run through the outputs first, so
// that the blocks at work share their samples of x in L2. The stored weight block serves both
// directions: [right, left] is K-major forward and N-major transposed.
#pragma once

#include "hopper.cuh"

namespace dnc::cuda {

struct Multiply {
  const int32_t* table;  // sources [outputs, terms], or targets [outputs, terms] when transposed
  const void* bias;      // [outputs * b] of the storage type; may be null
  int outputs;
  int terms;
  int slots;   // weight blocks per right block row
  int panels;  // 256 samples each, the last one perhaps in part
  bool relu;
};

template <int kBlock, bool kResident>
struct MultiplyLayout {
  static constexpr int kSamples = 256;
  static constexpr int kGroupSamples = kSamples / 2;
  static constexpr int kChunks = kBlock / kTileWidth;  // of a term; also tiles across an output
  static constexpr int kStages = kResident ? 3 : 4;
  static constexpr int kInputBytes = kSamples * kRowBytes;
  static constexpr int kWeightBytes = kBlock * kRowBytes;  // of a chunk
  static constexpr int kStageBytes = kInputBytes + (kResident ? 0 : kWeightBytes);
  static constexpr int kOutBytes = 64 * kBlock * 2;  // what a warpgroup stores at a time
  static constexpr int kStaging = kStages * kStageBytes;
  static constexpr int kBarriers = kStaging + 2 * kOutBytes;
  static constexpr int kPanel = kBarriers + kGroupBytes;

  __host__ __device__ static constexpr int panel_bytes(int terms) {
    return kResident ? terms * kChunks * kWeightBytes : 0;
  }
  // shared memory begins anywhere, tiles at multiples of 1024
  __host__ __device__ static constexpr int shared_bytes(int terms) {
    return kPanel + panel_bytes(terms) + kGroupBytes;
  }
};

template <int kBlock, bool kTransposed, bool kResident>
struct MultiplyRing {
  using Layout = MultiplyLayout<kBlock, kResident>;
  uint32_t base;

  __device__ uint32_t input(int stage) const { return base + stage * Layout::kStageBytes; }
  __device__ uint32_t weight(int stage, int chunk) const {
    return kResident ? base + Layout::kPanel + chunk * Layout::kWeightBytes
                     : input(stage) + Layout::kInputBytes;
  }
  __device__ uint32_t staging(int group) const {
    return base + Layout::kStaging + group * Layout::kOutBytes;
  }
  __device__ uint32_t full(int stage) const { return base + Layout::kBarriers + stage * 16; }
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
  __device__ uint32_t panel_full() const { return full(Layout::kStages); }

  // Requests the weights of one chunk: of the block's [right, left] tiles those with its features
  // on the summed side.
  __device__ void load_weight(uint32_t tiles, const CUtensorMap& weight, int flat, int chunk,
                              uint32_t barrier) const {
    for (int n = 0; n < Layout::kChunks; ++n) {
      const int right = flat * kBlock + (kTransposed ? chunk : n) * kTileWidth;
      const int left = (kTransposed ? n : chunk) * kTileWidth;
      load_box(tiles + n * 64 * kRowBytes, weight, left, right, barrier);
    }
  }
};

// One thread requests everything, in the order of use.
template <int kBlock, bool kTransposed, bool kResident>
__device__ void multiply_load(const MultiplyRing<kBlock, kTransposed, kResident>& ring,
                              const CUtensorMap& x, const CUtensorMap& weight,
                              const Multiply& task) {
  using Layout = MultiplyLayout<kBlock, kResident>;
  if (kResident) {
    const int output = blockIdx.x % task.outputs;
    barrier_expect(ring.panel_full(), Layout::panel_bytes(task.terms));
    for (int term = 0; term < task.terms; ++term) {
      const int entry = output * task.terms + term;
      const int flat = kTransposed ? task.table[entry] : entry;
      for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
        const uint32_t tiles = ring.weight(0, term * Layout::kChunks + chunk);
        ring.load_weight(tiles, weight, flat, chunk, ring.panel_full());
      }
    }
  }
  Cursor<Layout::kStages> cursor;
  for (int unit = blockIdx.x; unit < task.outputs * task.panels; unit += gridDim.x) {
    const int output = unit % task.outputs;
    const int sample = unit / task.outputs * Layout::kSamples;
    for (int term = 0; term < task.terms; ++term) {
      const int entry = output * task.terms + term;
      const int stored = task.table[entry];
      const int flat = kTransposed ? stored : entry;
      const int source = kTransposed ? stored / task.slots : stored;
      for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
        const int stage = cursor.stage;
        barrier_wait(ring.empty(stage), cursor.parity ^ 1);
        barrier_expect(ring.full(stage), Layout::kStageBytes);
        load_box(ring.input(stage), x, source * kBlock + chunk * kTileWidth, sample,
                 ring.full(stage));
        if (!kResident) {
          ring.load_weight(ring.weight(stage, 0), weight, flat, chunk, ring.full(stage));
        }
        cursor.advance();
      }
    }
  }
}

// Writes 64 samples of an output to the warpgroup's staging tiles and on to y.
template <int kBlock, class T>
__device__ void store_result(const float (&sum)[kBlock / 2], uint32_t staging, const CUtensorMap& y,
                             int feature, int sample, const Multiply& task) {
  const int thread = threadIdx.x % kWarpGroup;
  const int barrier = threadIdx.x / kWarpGroup;
  const int row = thread / 32 * 16 + thread % 32 / 4;
  const int first = thread % 4 * 2;
  if (thread == 0) {
    wait_stores_read();
  }
  named_barrier(barrier, kWarpGroup);
#pragma unroll
  for (int j = 0; j < kBlock / 8; ++j) {
    const int column = j * 8 + first;
    float2 bias{0, 0};
    if (task.bias != nullptr) {
      bias = unpack<T>(static_cast<const uint32_t*>(task.bias)[(feature + column) / 2]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float low = positive(sum[j * 4 + half * 2] + bias.x, task.relu);
      const float high = positive(sum[j * 4 + half * 2 + 1] + bias.y, task.relu);
      const uint32_t offset = swizzled((row + half * 8) * kRowBytes + column % kTileWidth * 2);
      store_shared(staging + column / kTileWidth * 64 * kRowBytes + offset, pack<T>(low, high));
    }
  }
  async_proxy_fence();
  named_barrier(barrier, kWarpGroup);
  if (thread == 0) {
    for (int tile = 0; tile < kBlock / kTileWidth; ++tile) {
      store_box(y, feature + tile * kTileWidth, sample, staging + tile * 64 * kRowBytes);
    }
    commit_stores();
  }
}

// A warpgroup's half of the samples.
template <int kBlock, class T, bool kTransposed, bool kResident>
__device__ void multiply_sum(const MultiplyRing<kBlock, kTransposed, kResident>& ring,
                             const CUtensorMap& y, const Multiply& task) {
  using Layout = MultiplyLayout<kBlock, kResident>;
  constexpr int kSteps = Layout::kGroupSamples / 64;
  const int group = threadIdx.x / kWarpGroup - 1;
  const bool signals = threadIdx.x % 32 == 0;
  const int chunks = task.terms * Layout::kChunks;
  float sum[kSteps][kBlock / 2];
  Cursor<Layout::kStages> cursor;
  if (kResident) {
    barrier_wait(ring.panel_full(), 0);
  }
  for (int unit = blockIdx.x; unit < task.outputs * task.panels; unit += gridDim.x) {
    int previous = 0;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int stage = cursor.stage;
      barrier_wait(ring.full(stage), cursor.parity);
      const uint32_t input = ring.input(stage) + group * Layout::kGroupSamples * kRowBytes;
      const uint32_t weight = ring.weight(stage, chunk);
      products_fence();
#pragma unroll
      for (int k = 0; k < kTileWidth / 16; ++k) {
        const uint64_t right = kTransposed ? operand(weight + k * 16 * kRowBytes, 64 * kRowBytes)
                                           : operand(weight + k * 32, 0);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const uint64_t left = operand(input + step * 64 * kRowBytes + k * 32, 0);
          product<T, kBlock, false, kTransposed>(sum[step], left, right, chunk + k > 0);
        }
      }
      commit_products();
      // the products before these are done: their stage may be filled again
      wait_products<1>();
      if (chunk > 0 && signals) {
        barrier_arrive(ring.empty(previous));
      }
      previous = stage;
      cursor.advance();
    }
    wait_products<0>();
    if (signals) {
      barrier_arrive(ring.empty(previous));
    }
    const int feature = unit % task.outputs * kBlock;
    const int sample = unit / task.outputs * Layout::kSamples + group * Layout::kGroupSamples;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      store_result<kBlock, T>(sum[step], ring.staging(group), y, feature, sample + step * 64, task);
    }
  }
  wait_stores_read();
}

// Boxes: x 64 x 256 samples, weight 64 x 64 of [rows * slots * b, b], y 64 x 64 samples. A resident
// launch has a multiple of `outputs` blocks.
template <int kBlock, class T, bool kTransposed, bool kResident>
__global__ void __launch_bounds__(3 * kWarpGroup, 1)
    multiply_kernel(const __grid_constant__ CUtensorMap x,
                    const __grid_constant__ CUtensorMap weight,
                    const __grid_constant__ CUtensorMap y, const Multiply task) {
  if constexpr (kHopper) {
    using Layout = MultiplyLayout<kBlock, kResident>;
    const uint32_t base = (dynamic_shared() + kGroupBytes - 1) / kGroupBytes * kGroupBytes;
    const MultiplyRing<kBlock, kTransposed, kResident> ring{base};
    if (threadIdx.x == 0) {
      prefetch_map(x);
      prefetch_map(weight);
      prefetch_map(y);
      for (int stage = 0; stage < Layout::kStages; ++stage) {
        barrier_init(ring.full(stage), 1);
        barrier_init(ring.empty(stage), 2 * kWarpGroup / 32);
      }
      barrier_init(ring.panel_full(), 1);
      barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < kWarpGroup) {
      fewer_registers<40>();
      if (threadIdx.x == 0) {
        multiply_load(ring, x, weight, task);
      }
    } else {
      more_registers<232>();
      multiply_sum<kBlock, T>(ring, y, task);
    }
  } else {
    stop_program();
  }
}

}  // namespace dnc::cuda
