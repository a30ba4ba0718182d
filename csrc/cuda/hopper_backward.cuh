// All gradients of a junction on Hopper, reading grad_y once for the two products it enters.
//
// | name    | meaning                                                                            |
// |---------|------------------------------------------------------------------------------------|
// | b       | edge of a weight block: 64 or 128 features                                         |
// | column  | left block column: b features of x and grad_x                                      |
// | target  | one weight block of a column; `targets` lists them as flat = row * slots + slot    |
// | group   | kPairs pairs of a column's targets: their float32 gradients fit in registers       |
// | pair    | two targets of a group: one stage of the ring, a target's grad_weight per          |
// |         | multiplying warpgroup                                                              |
// | panel   | 64 (b = 128) or 128 (b = 64) samples: what one stage holds of grad_y and x         |
// | split   | an equal share of the panels; its grad_weight is a float32 partial sum             |
// | unit    | one group of one column for one split; all are equal                               |
//
// For every panel and target:  grad_x += grad_y W          grad_y K-major, W N-major
//                              grad_weight += grad_y^T x   grad_y M-major, x N-major
// grad_x sums over all targets of a column and is computed here only where they are one group;
// otherwise `multiply_kernel` computes it and this kernel the rest.
#pragma once

#include "hopper.cuh"

namespace dnc::cuda {

struct Backward {
  const int32_t* targets;  // [columns, degree]
  float* weight_partial;   // [splits, rows * slots, b, b]
  float* bias_partial;     // [splits * bias_parts(b), n_out]; null when not asked for
  int columns;
  int degree;
  int rows;
  int slots;
  int panels;
  int splits;  // at most `panels`
};

// A column of grad_y in a panel is summed in so many parts, by as many threads.
__host__ __device__ constexpr int bias_parts(int block) { return 2 * kWarpGroup / block; }

// Pairs whose grad_weight takes 128 of the registers of a thread.
__host__ __device__ constexpr int max_pairs(int block) { return block == 128 ? 1 : 4; }

// Samples of a panel.
__host__ __device__ constexpr int panel_samples(int block) { return block == 128 ? 64 : 128; }

template <int kBlock, int kPairs, bool kInput>
struct BackwardLayout {
  static constexpr int kTiles = kBlock / kTileWidth;
  static constexpr int kTargets = 2 * kPairs;  // of a group
  static_assert(kPairs <= max_pairs(kBlock));
  static constexpr int kSamples = panel_samples(kBlock);
  static constexpr int kStages = 3;       // of grad_y
  static constexpr int kInputStages = 2;  // of x
  static constexpr int kTileBytes = kSamples * kRowBytes;
  static constexpr int kPanelBytes = kTiles * kTileBytes;  // of one target's grad_y, or of x
  static constexpr int kWeightBytes = kBlock * kBlock * 2;
  static constexpr int kOutBytes = 64 * kRowBytes;  // of grad_x, per warpgroup

  static constexpr int kInputs = kStages * 2 * kPanelBytes;
  static constexpr int kWeights = kInputs + kInputStages * kPanelBytes;
  static constexpr int kStaging = kWeights + (kInput ? kTargets * kWeightBytes : 0);
  static constexpr int kBarriers = kStaging + (kInput ? 2 * kOutBytes : 0);
  static constexpr int kSharedBytes = kBarriers + 2 * kGroupBytes;
  static_assert(kSharedBytes <= kMaxSharedBytes);

  uint32_t base;

  __device__ uint32_t grad(int stage, int half) const {
    return base + (stage * 2 + half) * kPanelBytes;
  }
  __device__ uint32_t input(int stage) const { return base + kInputs + stage * kPanelBytes; }
  // tile of W with features right * 64... and left * 64...
  __device__ uint32_t weight(int target, int right, int left) const {
    return base + kWeights + target * kWeightBytes + (right * kTiles + left) * 64 * kRowBytes;
  }
  __device__ uint32_t staging(int group) const { return base + kStaging + group * kOutBytes; }
  __device__ uint32_t grad_full(int stage) const { return base + kBarriers + stage * 16; }
  __device__ uint32_t grad_empty(int stage) const { return grad_full(stage) + 8; }
  __device__ uint32_t input_full(int stage) const { return grad_full(kStages + stage); }
  __device__ uint32_t input_empty(int stage) const { return input_full(stage) + 8; }
  __device__ uint32_t weight_full() const { return grad_full(kStages + kInputStages); }
  __device__ uint32_t weight_empty() const { return weight_full() + 8; }
};

// What a unit number stands for; columns run first, so that those at work share grad_y in L2.
template <int kTargets>
struct BackwardUnit {
  int column;
  int first;  // target
  int split;
  int begin;  // panel
  int end;

  __device__ BackwardUnit(int unit, const Backward& task) {
    const int groups = (task.degree + kTargets - 1) / kTargets;
    column = unit % task.columns;
    first = unit / task.columns % groups * kTargets;
    split = unit / task.columns / groups;
    begin = static_cast<int>(int64_t{task.panels} * split / task.splits);
    end = static_cast<int>(int64_t{task.panels} * (split + 1) / task.splits);
  }

  // The weight block of the unit's i-th target, or one past the last block for none: the copy
  // engine then reads zeros.
  __device__ int flat(int i, const Backward& task) const {
    const int target = first + i;
    return target < task.degree ? task.targets[column * task.degree + target]
                                : task.rows * task.slots;
  }

  __device__ static int count(const Backward& task) {
    return (task.degree + kTargets - 1) / kTargets * task.columns * task.splits;
  }
};

// One thread requests everything, in the order of use.
template <int kBlock, int kPairs, bool kInput>
__device__ void backward_load(const BackwardLayout<kBlock, kPairs, kInput>& at,
                              const CUtensorMap& grad_y, const CUtensorMap& x,
                              const CUtensorMap& weight, const Backward& task) {
  using Layout = BackwardLayout<kBlock, kPairs, kInput>;
  using Unit = BackwardUnit<Layout::kTargets>;
  Cursor<Layout::kStages> grads;
  Cursor<Layout::kInputStages> inputs;
  uint32_t weight_parity = 0;
  for (int index = blockIdx.x; index < Unit::count(task); index += gridDim.x) {
    const Unit unit(index, task);
    if (kInput) {
      barrier_wait(at.weight_empty(), weight_parity ^ 1);
      barrier_expect(at.weight_full(), Layout::kTargets * Layout::kWeightBytes);
      for (int i = 0; i < Layout::kTargets; ++i) {
        const int row = unit.flat(i, task) * kBlock;
        for (int tile = 0; tile < Layout::kTiles * Layout::kTiles; ++tile) {
          const int right = tile / Layout::kTiles;
          const int left = tile % Layout::kTiles;
          load_box(at.weight(i, right, left), weight, left * 64, row + right * 64,
                   at.weight_full());
        }
      }
      weight_parity ^= 1;
    }
    for (int panel = unit.begin; panel < unit.end; ++panel) {
      const int sample = panel * Layout::kSamples;
      barrier_wait(at.input_empty(inputs.stage), inputs.parity ^ 1);
      barrier_expect(at.input_full(inputs.stage), Layout::kPanelBytes);
      for (int tile = 0; tile < Layout::kTiles; ++tile) {
        load_box(at.input(inputs.stage) + tile * Layout::kTileBytes, x,
                 unit.column * kBlock + tile * 64, sample, at.input_full(inputs.stage));
      }
      inputs.advance();
      for (int pair = 0; pair < kPairs; ++pair) {
        const int stage = grads.stage;
        barrier_wait(at.grad_empty(stage), grads.parity ^ 1);
        barrier_expect(at.grad_full(stage), 2 * Layout::kPanelBytes);
        for (int half = 0; half < 2; ++half) {
          const int row = unit.flat(pair * 2 + half, task) / task.slots;
          for (int tile = 0; tile < Layout::kTiles; ++tile) {
            load_box(at.grad(stage, half) + tile * Layout::kTileBytes, grad_y,
                     row * kBlock + tile * 64, sample, at.grad_full(stage));
          }
        }
        grads.advance();
      }
    }
  }
}

// Adds a panel's grad_y, this thread's two features of its part of the samples, to sum.
template <int kBlock, class T, int kSamples>
__device__ void add_columns(uint32_t panel, float2& sum) {
  constexpr int kPartSamples = kSamples / bias_parts(kBlock);
  const int thread = threadIdx.x % kWarpGroup;
  const int word = thread % (kBlock / 2);
  const uint32_t tile = panel + word / 32 * kSamples * kRowBytes;
  const int row = thread / (kBlock / 2) * kPartSamples;
#pragma unroll 8
  for (int i = 0; i < kPartSamples; ++i) {
    const float2 pair =
        unpack<T>(load_shared(tile + swizzled((row + i) * kRowBytes + word % 32 * 4)));
    sum.x += pair.x;
    sum.y += pair.y;
  }
}

// Writes 64 x 64 of grad_x: 64 samples, 64 features.
template <class T>
__device__ void store_grad_input(const float (&sum)[32], uint32_t staging,
                                 const CUtensorMap& grad_x, int feature, int sample) {
  const int thread = threadIdx.x % kWarpGroup;
  const int barrier = threadIdx.x / kWarpGroup;
  const int row = thread / 32 * 16 + thread % 32 / 4;
  if (thread == 0) {
    wait_stores_read();
  }
  named_barrier(barrier, kWarpGroup);
#pragma unroll
  for (int j = 0; j < 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_shared(staging + swizzled((row + half * 8) * kRowBytes + j * 16 + thread % 4 * 4),
                   pack<T>(sum[j * 4 + half * 2], sum[j * 4 + half * 2 + 1]));
    }
  }
  async_proxy_fence();
  named_barrier(barrier, kWarpGroup);
  if (thread == 0) {
    store_box(grad_x, feature, sample, staging);
    commit_stores();
  }
}

// Writes a target's grad_weight of one split.
template <int kBlock>
__device__ void store_grad_weight(const float (&sum)[kBlock / 64][kBlock / 2], float* partial) {
  const int thread = threadIdx.x % kWarpGroup;
  const int row = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kBlock / 64; ++tile) {
#pragma unroll
    for (int j = 0; j < kBlock / 8; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int right = tile * 64 + row + half * 8;
        const int left = j * 8 + thread % 4 * 2;
        *reinterpret_cast<float2*>(partial + right * kBlock + left) =
            float2{sum[tile][j * 4 + half * 2], sum[tile][j * 4 + half * 2 + 1]};
      }
    }
  }
}

// One of two warpgroups: grad_weight of one target of every pair, and 64 x 64 of each panel's
// grad_x, which are its half of the samples (b = 64) or of the features (b = 128).
template <int kBlock, class T, int kPairs, bool kInput>
__device__ void backward_sum(const BackwardLayout<kBlock, kPairs, kInput>& at,
                             const CUtensorMap& grad_x, const Backward& task) {
  using Layout = BackwardLayout<kBlock, kPairs, kInput>;
  using Unit = BackwardUnit<Layout::kTargets>;
  const int group = threadIdx.x / kWarpGroup - 1;
  const bool signals = threadIdx.x % 32 == 0;
  const int left_tile = kBlock == 128 ? group : 0;
  const int first_sample = kBlock == 128 ? 0 : group * 64;
  float grad_weight[kPairs][Layout::kTiles][kBlock / 2];
  float grad_input[32];
  Cursor<Layout::kStages> grads;
  Cursor<Layout::kInputStages> inputs;
  uint32_t weight_parity = 0;
  for (int index = blockIdx.x; index < Unit::count(task); index += gridDim.x) {
    const Unit unit(index, task);
    bool sums_bias[kPairs];
    float2 grad_bias[kPairs];
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      // every right row has one slot 0, and so one unit per split that sums its grad_y
      const int target = unit.first + pair * 2 + group;
      sums_bias[pair] = task.bias_partial != nullptr && target < task.degree &&
                        unit.flat(pair * 2 + group, task) % task.slots == 0;
      grad_bias[pair] = float2{0, 0};
    }
    if (kInput) {
      barrier_wait(at.weight_full(), weight_parity);
      weight_parity ^= 1;
    }
    for (int panel = unit.begin; panel < unit.end; ++panel) {
      barrier_wait(at.input_full(inputs.stage), inputs.parity);
      const uint32_t input = at.input(inputs.stage);
      int previous = 0;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int stage = grads.stage;
        barrier_wait(at.grad_full(stage), grads.parity);
        // grad_x has a group of its own where it is complete, to be stored meanwhile
        const bool complete = kInput && pair == kPairs - 1;
        products_fence();
        if (kInput) {
#pragma unroll
          for (int step = 0; step < 2 * kBlock / 16; ++step) {
            const int half = step / (kBlock / 16);
            const int right = step % (kBlock / 16) / 4;
            const int k = step % 4;
            const uint32_t rows = at.grad(stage, half) + right * Layout::kTileBytes;
            const uint32_t weight = at.weight(pair * 2 + half, right, left_tile);
            product<T, 64, false, true>(grad_input,
                                        operand(rows + first_sample * kRowBytes + k * 32, 0),
                                        operand(weight + k * 16 * kRowBytes, 0), pair + step > 0);
          }
          if (complete) {
            commit_products();
            products_fence();
          }
        }
#pragma unroll
        for (int k = 0; k < Layout::kSamples / 16; ++k) {
          const uint64_t right = operand(input + k * 16 * kRowBytes, Layout::kTileBytes);
#pragma unroll
          for (int tile = 0; tile < Layout::kTiles; ++tile) {
            const uint32_t rows = at.grad(stage, group) + tile * Layout::kTileBytes;
            product<T, kBlock, true, true>(grad_weight[pair][tile],
                                           operand(rows + k * 16 * kRowBytes, 0), right,
                                           panel > unit.begin || k > 0);
          }
        }
        commit_products();
        if (sums_bias[pair]) {
          add_columns<kBlock, T, Layout::kSamples>(at.grad(stage, group), grad_bias[pair]);
          async_proxy_fence();
        }
        __syncwarp();
        if (pair > 0) {
          // the products of the pair before are done: its stage may be filled again
          if (complete) {
            wait_products<2>();
          } else {
            wait_products<1>();
          }
          if (signals) {
            barrier_arrive(at.grad_empty(previous));
          }
        }
        previous = stage;
        grads.advance();
      }
      if (kInput) {
        wait_products<1>();
        settle(grad_input);
        store_grad_input<T>(grad_input, at.staging(group), grad_x,
                            unit.column * kBlock + left_tile * 64,
                            panel * Layout::kSamples + first_sample);
      }
      wait_products<0>();
      if (signals) {
        barrier_arrive(at.grad_empty(previous));
        barrier_arrive(at.input_empty(inputs.stage));
      }
      inputs.advance();
    }
    if (kInput && signals) {
      barrier_arrive(at.weight_empty());
    }
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
      for (int tile = 0; tile < Layout::kTiles; ++tile) settle(grad_weight[pair][tile]);
      if (unit.first + pair * 2 + group < task.degree) {
        const int flat = unit.flat(pair * 2 + group, task);
        const int64_t block = int64_t{unit.split} * task.rows * task.slots + flat;
        store_grad_weight<kBlock>(grad_weight[pair], task.weight_partial + block * kBlock * kBlock);
        if (sums_bias[pair]) {
          const int thread = threadIdx.x % kWarpGroup;
          const int part = unit.split * bias_parts(kBlock) + thread / (kBlock / 2);
          const int64_t column = int64_t{flat} / task.slots * kBlock + thread % (kBlock / 2) * 2;
          *reinterpret_cast<float2*>(task.bias_partial + int64_t{part} * task.rows * kBlock +
                                     column) = grad_bias[pair];
        }
      }
    }
  }
  wait_stores_read();
}

// Boxes: grad_y and x 64 x kSamples, weight 64 x 64 of [rows * slots * b, b], grad_x 64 x 64
// samples. Without kInput, weight and grad_x are not looked at.
template <int kBlock, class T, int kPairs, bool kInput>
__global__ void __launch_bounds__(3 * kWarpGroup, 1)
    backward_kernel(const __grid_constant__ CUtensorMap grad_y,
                    const __grid_constant__ CUtensorMap x,
                    const __grid_constant__ CUtensorMap weight,
                    const __grid_constant__ CUtensorMap grad_x, const Backward task) {
  if constexpr (kHopper) {
    using Layout = BackwardLayout<kBlock, kPairs, kInput>;
    const Layout at{(dynamic_shared() + kGroupBytes - 1) / kGroupBytes * kGroupBytes};
    if (threadIdx.x == 0) {
      prefetch_map(grad_y);
      prefetch_map(x);
      if (kInput) {
        prefetch_map(weight);
        prefetch_map(grad_x);
      }
      constexpr int kReaders = 2 * kWarpGroup / 32;
      for (int stage = 0; stage < Layout::kStages; ++stage) {
        barrier_init(at.grad_full(stage), 1);
        barrier_init(at.grad_empty(stage), kReaders);
      }
      for (int stage = 0; stage < Layout::kInputStages; ++stage) {
        barrier_init(at.input_full(stage), 1);
        barrier_init(at.input_empty(stage), kReaders);
      }
      barrier_init(at.weight_full(), 1);
      barrier_init(at.weight_empty(), kReaders);
      barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < kWarpGroup) {
      fewer_registers<40>();
      if (threadIdx.x == 0) {
        backward_load<kBlock, kPairs, kInput>(at, grad_y, x, weight, task);
      }
    } else {
      more_registers<232>();
      backward_sum<kBlock, T, kPairs, kInput>(at, grad_x, task);
    }
  } else {
    stop_program();
  }
}

}  // namespace dnc::cuda
