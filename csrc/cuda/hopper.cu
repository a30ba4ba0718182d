// Launches Hopper's kernels; compiled for sm_90a alone.
#include <algorithm>

#include "block_paths.cuh"
#include "hopper_backward.cuh"
#include "hopper_maps.cuh"
#include "hopper_multiply.cuh"

namespace dnc::cuda {

namespace {

constexpr int kThreads = 3 * kWarpGroup;
// What a unit of the backward kernel costs besides its panels, in panels: filling the pipeline and
// writing grad_weight.
constexpr int kUnitPanels = 4;

int64_t n_in(const dnc_blocks& blocks) { return blocks.columns * blocks.block; }
int64_t n_out(const dnc_blocks& blocks) { return blocks.rows * blocks.block; }

template <class T>
cudaError_t encode_weight(CUtensorMap& map, const dnc_blocks& blocks, const void* weight) {
  return encode_map<T>(map, weight, blocks.rows * blocks.slots * blocks.block, blocks.block,
                       blocks.block, kTileWidth);
}

template <int kBlock, class T, bool kTransposed, bool kResident>
cudaError_t start_multiply(const BlockTask& task, Samples from, const void* weight, void* out,
                           const Multiply& sizes) {
  using Layout = MultiplyLayout<kBlock, kResident>;
  const int64_t features = kTransposed ? n_out(task.blocks) : n_in(task.blocks);
  const int64_t outputs = int64_t{sizes.outputs} * kBlock;
  CUtensorMap x_map, weight_map, y_map;
  cudaError_t error =
      encode_map<T>(x_map, from.data, task.batch, features, from.stride, Layout::kSamples);
  if (error == cudaSuccess) error = encode_weight<T>(weight_map, task.blocks, weight);
  if (error == cudaSuccess) {
    error = encode_map<T>(y_map, out, task.batch, outputs, outputs, kTileWidth);
  }
  if (error != cudaSuccess) return error;
  const int64_t units = int64_t{sizes.outputs} * sizes.panels;
  const int64_t blocks =
      kResident ? sizes.outputs * std::min(task.multiprocessors / sizes.outputs, sizes.panels)
                : std::min<int64_t>(units, task.multiprocessors);
  return launch(multiply_kernel<kBlock, T, kTransposed, kResident>, blocks, kThreads,
                Layout::shared_bytes(sizes.terms), task.stream, x_map, weight_map, y_map, sizes);
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

// A group's targets, no more than registers hold and as equal as pairs allow.
int backward_pairs(const dnc_blocks& blocks) {
  const int64_t most = 2 * max_pairs(int(blocks.block));
  const int64_t groups = divide_up(blocks.degree, most);
  return int(divide_up(divide_up(blocks.degree, groups), 2));
}

int64_t backward_groups(const dnc_blocks& blocks) {
  return divide_up(blocks.degree, 2 * backward_pairs(blocks));
}

template <int kBlock, class T, int kPairs, bool kInput>
cudaError_t start_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                           void* grad_x, const Backward& sizes) {
  using Layout = BackwardLayout<kBlock, kPairs, kInput>;
  const dnc_blocks& blocks = task.blocks;
  CUtensorMap grad_y_map, x_map, weight_map, grad_x_map;
  cudaError_t error = encode_map<T>(grad_y_map, grad_y.data, task.batch, n_out(blocks),
                                    grad_y.stride, Layout::kSamples);
  if (error == cudaSuccess) {
    error = encode_map<T>(x_map, x.data, task.batch, n_in(blocks), x.stride, Layout::kSamples);
  }
  if (error == cudaSuccess && kInput) error = encode_weight<T>(weight_map, blocks, weight);
  if (error == cudaSuccess && kInput) {
    error = encode_map<T>(grad_x_map, grad_x, task.batch, n_in(blocks), n_in(blocks), kTileWidth);
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
    const cudaError_t error =
        hopper_multiply<T>(task, true, grad_y, weight, nullptr, false, grad_x);
    if (error != cudaSuccess) return error;
  }
  return start_backward<kBlock, T, kPairs, false>(task, grad_y, x, weight, nullptr, sizes);
}

}  // namespace

// As many splits as keep the slowest multiprocessor's work least: ties go to fewer partial sums.
Splits hopper_splits(const dnc_blocks& blocks, int multiprocessors, int64_t batch) {
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
  return {best, bias_parts(int(blocks.block))};
}

template <class T>
cudaError_t hopper_multiply(const BlockTask& task, bool transposed, Samples from,
                            const void* weight, const void* bias, bool relu, void* out) {
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

template <class T>
cudaError_t hopper_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                            void* grad_x, const Splits& splits, const Partials& partials) {
  const dnc_blocks& blocks = task.blocks;
  const Backward sizes{
      blocks.targets,     partials.weight,
      partials.bias,      int(blocks.columns),
      int(blocks.degree), int(blocks.rows),
      int(blocks.slots),  int(divide_up(task.batch, panel_samples(int(blocks.block)))),
      splits.count};
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

#define DNC_INSTANTIATE(T)                                                                        \
  template cudaError_t hopper_multiply<T>(const BlockTask&, bool, Samples, const void*,           \
                                          const void*, bool, void*);                              \
  template cudaError_t hopper_backward<T>(const BlockTask&, Samples, Samples, const void*, void*, \
                                          const Splits&, const Partials&);
DNC_INSTANTIATE(BFloat16)
DNC_INSTANTIATE(Half)
#undef DNC_INSTANTIATE

}  // namespace dnc::cuda
