// The plain C side of the block kernels, and which kernel serves what; compiled for sm_90a alone.
#include <algorithm>

#include "blocks.h"
#include "hopper_backward.cuh"
#include "hopper_maps.cuh"
#include "hopper_multiply.cuh"
#include "launchers.cuh"

namespace dnc::cuda {

namespace {

constexpr int kThreads = 3 * kWarpGroup;
constexpr int kAddThreads = 256;
constexpr int kAdded = 4;  // numbers that a thread of add_partials adds
// What a unit of the backward kernel costs besides its panels, in panels: filling the pipeline and
// writing grad_weight.
constexpr int kUnitPanels = 4;

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

// Sums over parts of the batch: [splits, rows * slots, b, b] and [splits * bias_parts, n_out]; the
// second is null when not asked for.
struct Partials {
  int splits;
  float* weight;
  float* bias;
};

int64_t n_in(const dnc_blocks& blocks) { return blocks.columns * blocks.block; }
int64_t n_out(const dnc_blocks& blocks) { return blocks.rows * blocks.block; }
bool has_kernels(const dnc_blocks& blocks) {
  return (blocks.block == 64 || blocks.block == 128) && blocks.slots > 0 && blocks.degree > 0;
}
int64_t weights(const dnc_blocks& blocks) {
  return blocks.rows * blocks.slots * blocks.block * blocks.block;
}

template <class T>
cudaError_t encode_weight(CUtensorMap& map, const dnc_blocks& blocks, const void* weight) {
  return encode_map<T>(map, "weight", weight, blocks.rows * blocks.slots * blocks.block,
                       blocks.block, blocks.block, kTileWidth);
}

template <int kBlock, class T, bool kTransposed, bool kResident>
cudaError_t start_multiply(const BlockTask& task, Samples from, const void* weight, void* out,
                           const Multiply& sizes) {
  using Layout = MultiplyLayout<kBlock, kResident>;
  const int64_t features = kTransposed ? n_out(task.blocks) : n_in(task.blocks);
  const int64_t outputs = int64_t{sizes.outputs} * kBlock;
  CUtensorMap x_map, weight_map, y_map;
  cudaError_t error =
      encode_map<T>(x_map, "x", from.data, task.batch, features, from.stride, Layout::kSamples);
  if (error == cudaSuccess) error = encode_weight<T>(weight_map, task.blocks, weight);
  if (error == cudaSuccess) {
    error = encode_map<T>(y_map, "y", out, task.batch, outputs, outputs, Layout::kGroupSamples);
  }
  if (error != cudaSuccess) return error;
  // neighbouring panels share their weights, where these are not kept anyway
  const int cluster = !kResident && sizes.panels > 1 && task.multiprocessors > 1 ? 2 : 1;
  const int64_t units = int64_t{sizes.outputs} * divide_up(sizes.panels, cluster);
  const int64_t clusters =
      kResident ? sizes.outputs * std::min(task.multiprocessors / sizes.outputs, sizes.panels)
                : std::min<int64_t>(units, task.multiprocessors / cluster);
  return launch_clusters(multiply_kernel<kBlock, T, kTransposed, kResident>, cluster,
                         clusters * cluster, kThreads, Layout::shared_bytes(sizes.terms),
                         task.stream, x_map, weight_map, y_map, sizes);
}

// Whether each block can keep the weights of one output without leaving many multiprocessors idle.
template <int kBlock>
bool resident(const Multiply& sizes, int multiprocessors) {
  const int busy = multiprocessors / sizes.outputs * sizes.outputs;
  return MultiplyLayout<kBlock, true>::shared_bytes(sizes.terms) <= kMaxSharedBytes &&
         busy >= multiprocessors - multiprocessors / 8;
}

template <int kBlock, class T, bool kTransposed>
cudaError_t choose_multiply(const BlockTask& task, Samples from, const void* weight, void* out,
                            const Multiply& sizes) {
  return resident<kBlock>(sizes, task.multiprocessors)
             ? start_multiply<kBlock, T, kTransposed, true>(task, from, weight, out, sizes)
             : start_multiply<kBlock, T, kTransposed, false>(task, from, weight, out, sizes);
}

template <class T>
cudaError_t multiply(const BlockTask& task, bool transposed, Samples from, const void* weight,
                     const void* bias, bool relu, void* out) {
  if (task.batch == 0) return cudaSuccess;
  const dnc_blocks& blocks = task.blocks;
  const int panels = int(divide_up(task.batch, MultiplyLayout<64, false>::kSamples));
  const Multiply sizes{transposed ? blocks.targets : blocks.sources,
                       bias,
                       int(transposed ? blocks.columns : blocks.rows),
                       int(transposed ? blocks.degree : blocks.slots),
                       int(blocks.slots),
                       panels,
                       relu};
  if (blocks.block == 64) {
    return transposed ? choose_multiply<64, T, true>(task, from, weight, out, sizes)
                      : choose_multiply<64, T, false>(task, from, weight, out, sizes);
  }
  return transposed ? choose_multiply<128, T, true>(task, from, weight, out, sizes)
                    : choose_multiply<128, T, false>(task, from, weight, out, sizes);
}

// A group's targets, no more than registers hold and as equal as pairs allow.
int backward_pairs(const dnc_blocks& blocks) {
  const int64_t most = 2 * max_pairs(int(blocks.block));
  const int64_t groups = divide_up(blocks.degree, most);
  return int(divide_up(divide_up(blocks.degree, groups), 2));
}

int64_t backward_groups(const dnc_blocks& blocks) {
  return divide_up(blocks.degree, 2 * backward_pairs(blocks));
}

// As many splits as keep the slowest multiprocessor's work least: ties go to fewer partial sums.
int splits_of(const dnc_blocks& blocks, int multiprocessors, int64_t batch) {
  const int64_t panels = divide_up(batch, panel_samples(int(blocks.block)));
  const int64_t units = blocks.columns * backward_groups(blocks);
  int best = 1;
  int64_t least = INT64_MAX;
  for (int count = 1; count <= std::min<int64_t>(panels, multiprocessors); ++count) {
    const int64_t waves = divide_up(units * count, multiprocessors);
    const int64_t cost = waves * (divide_up(panels, count) + kUnitPanels);
    if (cost < least) {
      least = cost;
      best = count;
    }
  }
  return best;
}

template <int kBlock, class T, int kPairs, bool kInput>
cudaError_t start_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                           void* grad_x, const Backward& sizes) {
  using Layout = BackwardLayout<kBlock, kPairs, kInput>;
  const dnc_blocks& blocks = task.blocks;
  CUtensorMap grad_y_map, x_map, weight_map, grad_x_map;
  cudaError_t error = encode_map<T>(grad_y_map, "grad_y", grad_y.data, task.batch, n_out(blocks),
                                    grad_y.stride, Layout::kSamples);
  if (error == cudaSuccess) {
    error = encode_map<T>(x_map, "x", x.data, task.batch, n_in(blocks), x.stride, Layout::kSamples);
  }
  if (error == cudaSuccess && kInput) error = encode_weight<T>(weight_map, blocks, weight);
  if (error == cudaSuccess && kInput) {
    error = encode_map<T>(grad_x_map, "grad_x", grad_x, task.batch, n_in(blocks), n_in(blocks),
                          kTileWidth);
  }
  if (error != cudaSuccess) return error;
  const int64_t units = blocks.columns * backward_groups(blocks) * sizes.splits;
  return launch(backward_kernel<kBlock, T, kPairs, kInput>,
                std::min<int64_t>(units, task.multiprocessors), kThreads, Layout::kSharedBytes,
                task.stream, grad_y_map, x_map, kInput ? weight_map : x_map,
                kInput ? grad_x_map : x_map, sizes);
}

template <int kBlock, class T, int kPairs>
cudaError_t choose_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                            void* grad_x, const Backward& sizes) {
  if (grad_x != nullptr && backward_groups(task.blocks) == 1) {
    return start_backward<kBlock, T, kPairs, true>(task, grad_y, x, weight, grad_x, sizes);
  }
  if (grad_x != nullptr) {
    const cudaError_t error = multiply<T>(task, true, grad_y, weight, nullptr, false, grad_x);
    if (error != cudaSuccess) return error;
  }
  return start_backward<kBlock, T, kPairs, false>(task, grad_y, x, weight, nullptr, sizes);
}

template <class T>
cudaError_t backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                     void* grad_x, const Partials& partials) {
  const dnc_blocks& blocks = task.blocks;
  const Backward sizes{
      blocks.targets,     partials.weight,
      partials.bias,      int(blocks.columns),
      int(blocks.degree), int(blocks.rows),
      int(blocks.slots),  int(divide_up(task.batch, panel_samples(int(blocks.block)))),
      partials.splits};
  if (blocks.block == 128) {
    return choose_backward<128, T, 1>(task, grad_y, x, weight, grad_x, sizes);
  }
  switch (backward_pairs(blocks)) {
    case 1:
      return choose_backward<64, T, 1>(task, grad_y, x, weight, grad_x, sizes);
    case 2:
      return choose_backward<64, T, 2>(task, grad_y, x, weight, grad_x, sizes);
    case 3:
      return choose_backward<64, T, 3>(task, grad_y, x, weight, grad_x, sizes);
    default:
      return choose_backward<64, T, 4>(task, grad_y, x, weight, grad_x, sizes);
  }
}

// out[i] = the sum of `count` partial sums, in order, of which the next begins `size` further.
template <class T>
__global__ void add_partials(const float* partial, int count, int64_t size, T* out) {
  const int64_t i = (int64_t{blockIdx.x} * kAddThreads + threadIdx.x) * kAdded;
  if (i >= size) return;
  float4 sum{0, 0, 0, 0};
  for (int k = 0; k < count; ++k) {
    const float4 next = *reinterpret_cast<const float4*>(partial + k * size + i);
    sum = float4{sum.x + next.x, sum.y + next.y, sum.z + next.z, sum.w + next.w};
  }
  narrow(sum.x, out + i);
  narrow(sum.y, out + i + 1);
  narrow(sum.z, out + i + 2);
  narrow(sum.w, out + i + 3);
}

template <class T>
cudaError_t start_add(const BlockTask& task, const float* partial, int count, int64_t size,
                      void* out) {
  return launch(add_partials<T>, divide_up(size, kAddThreads * kAdded), kAddThreads, 0, task.stream,
                partial, count, size, static_cast<T*>(out));
}

// Call start(T()) with a 16-bit storage type, on the place's device.
template <class Start>
int with_half(dnc_place place, dnc_dtype dtype, const dnc_blocks& blocks, int64_t batch,
              Start start) {
  // coordinates of the copy engine, and the kernels' own, are int32
  const int64_t largest = divide_up(batch, 64) * std::max(blocks.rows, blocks.columns);
  const bool fits = has_kernels(blocks) && batch <= INT32_MAX - 512 && largest <= INT32_MAX &&
                    (blocks.rows * blocks.slots + 1) * blocks.block <= INT32_MAX;
  return with_type(place, dtype, [&](auto type) -> int {
    if constexpr (sizeof type == 2) {
      if (fits) return start(type);
    }
    return cudaErrorInvalidValue;
  });
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int dnc_blocks_forward(dnc_place place, dnc_dtype dtype, int multiprocessors,
                       const dnc_blocks* blocks, const void* x, int64_t x_stride,
                       const void* weight, const void* bias, int relu, void* y, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    return multiply<decltype(type)>(task, false, {x, x_stride}, weight, bias, relu != 0, y);
  });
}

int dnc_blocks_grad_input(dnc_place place, dnc_dtype dtype, int multiprocessors,
                          const dnc_blocks* blocks, const void* grad_y, int64_t grad_y_stride,
                          const void* weight, void* grad_x, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    return multiply<decltype(type)>(task, true, {grad_y, grad_y_stride}, weight, nullptr, false,
                                    grad_x);
  });
}

int dnc_blocks_backward(dnc_place place, dnc_dtype dtype, int multiprocessors,
                        const dnc_blocks* blocks, const void* grad_y, int64_t grad_y_stride,
                        const void* x, int64_t x_stride, const void* weight, void* grad_x,
                        void* grad_weight, void* grad_bias, void* workspace, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    using T = decltype(type);
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    const int64_t size = weights(*blocks);
    const int splits = splits_of(*blocks, multiprocessors, batch);
    float* const sums = static_cast<float*>(workspace);
    const Partials partials{splits, sums, grad_bias == nullptr ? nullptr : sums + splits * size};
    cudaError_t error = cudaSuccess;
    if (batch > 0) {
      error = backward<T>(task, {grad_y, grad_y_stride}, {x, x_stride}, weight, grad_x, partials);
    }
    // an empty batch has no partial sums
    const int parts = batch > 0 ? splits : 0;
    if (error == cudaSuccess) {
      error = start_add<T>(task, partials.weight, parts, size, grad_weight);
    }
    if (error == cudaSuccess && grad_bias != nullptr) {
      error = start_add<T>(task, partials.bias, parts * bias_parts(int(blocks->block)),
                           n_out(*blocks), grad_bias);
    }
    return error;
  });
}

int64_t dnc_blocks_workspace_bytes(int multiprocessors, const dnc_blocks* blocks, int64_t batch) {
  if (!has_kernels(*blocks)) return 0;
  const int64_t sums = weights(*blocks) + bias_parts(int(blocks->block)) * n_out(*blocks);
  return splits_of(*blocks, multiprocessors, batch) * sums * int64_t{sizeof(float)};
}
