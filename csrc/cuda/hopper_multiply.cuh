// y = finish(x W^T), or grad_x = grad_y W, on Hopper: copies ahead of the tensor cores, results
// written while the tensor cores work on what comes next.
//
// | name     | meaning                                                                           |
// |----------|-----------------------------------------------------------------------------------|
// | b        | edge of a weight block: 64 or 128 features                                        |
// | output   | a block of b features of the result: a right block row forward, a left block      |
// |          | column transposed                                                                 |
// | band     | 64 of an output's features: what a warpgroup sums up for its 128 samples at once  |
// | term     | one weight block that an output sums over: a slot, or a target when transposed    |
// | chunk    | 64 of the b features that a term sums over: what one stage of the ring holds      |
// | panel    | 256 samples                                                                       |
// | unit     | one output for one panel; all are equal, so blocks take turns                     |
// | resident | the weights of the output stay in shared memory and only x streams                |
// | cluster  | two blocks with the same output and neighbouring panels: each requests half of    |
// |          | the weights, and the copy engine brings them to both                              |
//
// One warpgroup copies, two multiply, 128 samples each. Weights are the operand of 64 rows and
// samples that of 128 columns, which reads 96 bytes of shared memory per clock of the tensor cores
// where 64 x 64 would read 128. Units run through the outputs first, so that the blocks at work
// share their samples of x in L2. The stored weight block serves both directions: [right, left] is
// K-major forward and M-major transposed.
//
// A warpgroup has two sets of sums. While it rounds and stores one, products add to the other: the
// output's other band (b = 128), or the next unit (b = 64).
#pragma once

#include "hopper.cuh"

namespace dnc::cuda {

struct Multiply {
  const int32_t* table;  // sources [outputs, terms], or targets [outputs, terms] when transposed
  const void* bias;      // [outputs * b] of the storage type; may be null
  int outputs;
  int terms;
  int slots;   // weight blocks per right block row
  int panels;  // the last one perhaps in part
  bool relu;
};

template <int kBlock, bool kResident>
struct MultiplyLayout {
  static constexpr int kSamples = 256;
  static constexpr int kGroupSamples = kSamples / 2;
  static constexpr int kBands = kBlock / kTileWidth;
  static constexpr int kChunks = kBlock / kTileWidth;  // of a term
  static constexpr int kStages = kResident ? 3 : 4;
  static constexpr int kInputBytes = kSamples * kRowBytes;
  static constexpr int kWeightTileBytes = 64 * kRowBytes;  // of a band or, transposed, a chunk
  static constexpr int kWeightBytes = kBands * kWeightTileBytes;  // of a chunk
  static constexpr int kStageBytes = kInputBytes + (kResident ? 0 : kWeightBytes);
  static constexpr int kOutBytes = kGroupSamples * kRowBytes;  // a warpgroup's samples of a band
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

// The units of this block, in order.
struct MultiplyUnits {
  int first, step, count;
  int rank, ranks;  // of the block in its cluster

  __device__ explicit MultiplyUnits(const Multiply& task)
      : rank(cluster_rank()), ranks(cluster_ranks()) {
    first = blockIdx.x / ranks;
    step = gridDim.x / ranks;
    count = task.outputs * ((task.panels + ranks - 1) / ranks);
  }
  __device__ int panel(int unit, const Multiply& task) const {
    return unit / task.outputs * ranks + rank;
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

  // Requests the weights of one chunk for the blocks of `mask`: of the [right, left] tiles those
  // with the chunk's features on the summed side.
  __device__ void load_weight(uint32_t tiles, const CUtensorMap& weight, int flat, int chunk,
                              uint32_t barrier, int mask) const {
    for (int band = 0; band < Layout::kBands; ++band) {
      const int right = flat * kBlock + (kTransposed ? chunk : band) * kTileWidth;
      const int left = (kTransposed ? band : chunk) * kTileWidth;
      load_box_to(tiles + band * Layout::kWeightTileBytes, weight, left, right, barrier, mask);
    }
  }
};

// One thread requests everything, in the order of use.
template <int kBlock, bool kTransposed, bool kResident>
__device__ void multiply_load(const MultiplyRing<kBlock, kTransposed, kResident>& ring,
                              const CUtensorMap& x, const CUtensorMap& weight,
                              const Multiply& task) {
  using Layout = MultiplyLayout<kBlock, kResident>;
  const MultiplyUnits units(task);
  if (kResident) {
    const int output = units.first % task.outputs;
    barrier_expect(ring.panel_full(), Layout::panel_bytes(task.terms));
    for (int term = 0; term < task.terms; ++term) {
      const int entry = output * task.terms + term;
      const int flat = kTransposed ? task.table[entry] : entry;
      for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
        const uint32_t tiles = ring.weight(0, term * Layout::kChunks + chunk);
        ring.load_weight(tiles, weight, flat, chunk, ring.panel_full(), 1 << units.rank);
      }
    }
  }
  Cursor<Layout::kStages> cursor;
  int turn = 0;  // the block of the cluster that requests a chunk's weights
  for (int unit = units.first; unit < units.count; unit += units.step) {
    const int output = unit % task.outputs;
    const int sample = units.panel(unit, task) * Layout::kSamples;
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
        if (!kResident && turn == units.rank) {
          ring.load_weight(ring.weight(stage, 0), weight, flat, chunk, ring.full(stage),
                           (1 << units.ranks) - 1);
        }
        turn = turn + 1 == units.ranks ? 0 : turn + 1;
        cursor.advance();
      }
    }
  }
}

// Writes 64 features of 128 samples, with the bias of features `row` and 8 further, to the
// warpgroup's staging tile and on to y.
template <class T>
__device__ void store_band(const float (&sum)[64], const float (&bias)[2], bool relu,
                           uint32_t staging, const CUtensorMap& y, int feature, int sample) {
  const int thread = threadIdx.x % kWarpGroup;
  const int barrier = threadIdx.x / kWarpGroup;
  const int lane = thread % 32;
  if (thread == 0) {
    wait_stores_read();
  }
  named_barrier(barrier, kWarpGroup);
  // of 16 samples by the warp's 16 features, lane l leads to the line of 8 features that holds
  // sample l % 8 + l / 16 * 8
  const int line = lane % 8 + lane / 16 * 8;
  const int column = (thread / 32 * 16 + lane / 8 % 2 * 8) * 2;
#pragma unroll
  for (int j = 0; j < 16; j += 2) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = (j + i / 2) * 4 + i % 2 * 2;
      pairs[i] =
          pack<T>(positive(sum[at] + bias[i % 2], relu), positive(sum[at + 1] + bias[i % 2], relu));
    }
    store_transposed(staging + swizzled((j * 8 + line) * kRowBytes + column), pairs);
  }
  async_proxy_fence();
  named_barrier(barrier, kWarpGroup);
  if (thread == 0) {
    store_box(y, feature, sample, staging);
    commit_stores();
  }
}

// A warpgroup's half of the samples. ptxas keeps products and the arithmetic on finished sums apart
// only in straight lines (else C7514: it waits after each product), so no step below is
// conditional.
template <int kBlock, class T, bool kTransposed, bool kResident>
struct MultiplySum {
  using Layout = MultiplyLayout<kBlock, kResident>;
  static constexpr int kBands = Layout::kBands;
  using Band = float[64];

  const MultiplyRing<kBlock, kTransposed, kResident>& ring;
  const CUtensorMap& y;
  const Multiply& task;
  const MultiplyUnits units{task};
  const int group = threadIdx.x / kWarpGroup - 1;
  Cursor<Layout::kStages> cursor{};
  int previous = 0;  // the stage before the current one
  float bias[kBands][2] = {};

  __device__ void wait_stage() { barrier_wait(ring.full(cursor.stage), cursor.parity); }

  __device__ void advance() {
    previous = cursor.stage;
    cursor.advance();
  }

  // All blocks of the cluster fill a stage again, once all are done with it.
  __device__ void release() {
    if (static_cast<int>(threadIdx.x % 32) < units.ranks) {
      barrier_arrive_at(ring.empty(previous), threadIdx.x % 32);
    }
  }

  // Starts to add what the current stage holds for a band.
  __device__ void add(Band& sum, int band, int chunk) {
    const uint32_t input = ring.input(cursor.stage) + group * Layout::kGroupSamples * kRowBytes;
    const uint32_t weight = ring.weight(cursor.stage, chunk) + band * Layout::kWeightTileBytes;
    products_fence();
#pragma unroll
    for (int k = 0; k < kTileWidth / 16; ++k) {
      const uint64_t left = operand(weight + (kTransposed ? k * 16 * kRowBytes : k * 32), 0);
      const uint64_t right = operand(input + k * 32, 0);
      product<T, 128, kTransposed, false>(sum, left, right, chunk + k > 0);
    }
    commit_products();
  }

  // All chunks of a unit but the first; the newest products are left running.
  __device__ void add_rest(Band (&sum)[kBands]) {
    for (int chunk = 1; chunk < task.terms * Layout::kChunks; ++chunk) {
      wait_stage();
      add(sum[0], 0, chunk);
      wait_products<1>();
      release();
      if constexpr (kBands == 2) add(sum[1], 1, chunk);
      advance();
    }
  }

  // Asks for a unit's bias, long before `store` needs it.
  __device__ void read_bias(int unit) {
    if (task.bias == nullptr) return;
    const int thread = threadIdx.x % kWarpGroup;
    const int feature = unit % task.outputs * kBlock + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2 * kBands; ++i) {
      const int at = feature + i / 2 * kTileWidth + i % 2 * 8;
      bias[i / 2][i % 2] = widen(static_cast<const T*>(task.bias)[at]);
    }
  }

  __device__ void store(Band& sum, int band, int unit) {
    settle(sum);
    store_band<T>(sum, bias[band], task.relu, ring.staging(group), y,
                  unit % task.outputs * kBlock + band * kTileWidth,
                  units.panel(unit, task) * Layout::kSamples + group * Layout::kGroupSamples);
  }

  // b = 128: each band is stored while products add to the other.
  __device__ void run(Band (&sum)[2]) {
    int unit = units.first;
    wait_stage();
    add(sum[0], 0, 0);
    add(sum[1], 1, 0);
    for (;;) {
      read_bias(unit);
      advance();
      add_rest(sum);
      wait_products<1>();
      store(sum[0], 0, unit);
      wait_products<0>();
      release();
      if (unit + units.step >= units.count) break;
      wait_stage();
      add(sum[0], 0, 0);
      store(sum[1], 1, unit);
      add(sum[1], 1, 0);
      unit += units.step;
    }
    store(sum[1], 1, unit);
  }

  // b = 64: one unit is stored while products add to the next; whether there is one.
  __device__ bool change(Band (&sum)[1], Band (&next)[1], int& unit) {
    add_rest(sum);
    if (unit + units.step >= units.count) {
      wait_products<0>();
      release();
      store(sum[0], 0, unit);
      return false;
    }
    wait_stage();
    add(next[0], 0, 0);
    wait_products<1>();
    release();
    store(sum[0], 0, unit);
    unit += units.step;
    read_bias(unit);
    advance();
    return true;
  }

  __device__ void run(Band (&even)[1]) {
    Band odd[1];
    int unit = units.first;
    wait_stage();
    add(even[0], 0, 0);
    read_bias(unit);
    advance();
    while (change(even, odd, unit) && change(odd, even, unit)) {
    }
  }
};

// Boxes: x 64 x 256 samples, weight 64 x 64 of [rows * slots * b, b], y 64 x 128 samples. Units are
// shared out among clusters of `gridDim` / ranks; a resident launch has clusters of one block, and
// a multiple of `outputs` of them.
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
        barrier_init(ring.empty(stage), 2 * kWarpGroup / 32 * cluster_ranks());
      }
      barrier_init(ring.panel_full(), 1);
      barrier_init_fence();
    }
    // no block writes to another one that has not begun, or has ended
    cluster_sync();
    if (threadIdx.x < kWarpGroup) {
      fewer_registers<40>();
      if (threadIdx.x == 0) {
        multiply_load(ring, x, weight, task);
      }
    } else {
      more_registers<232>();
      if (kResident) {
        barrier_wait(ring.panel_full(), 0);
      }
      MultiplySum<kBlock, T, kTransposed, kResident> sum{ring, y, task};
      if (sum.units.first < sum.units.count) {
        float sums[Layout::kBands][64];
        sum.run(sums);
      }
      wait_stores_read();
    }
    cluster_sync();
  } else {
    stop_program();
  }
}

}  // namespace dnc::cuda
