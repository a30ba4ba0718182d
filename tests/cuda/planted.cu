// One of Hopper's kernels by itself, quick to compile: tests plant mistakes in its source.
#include "hopper_maps.cuh"
#include "hopper_multiply.cuh"
#include "launchers.cuh"

using namespace dnc::cuda;

// y = x W^T of blocks of 64 in bfloat16, `columns` block columns to `rows` of `slots` blocks each.
extern "C" int planted_multiply(const void* x, const void* weight, const int32_t* sources, void* y,
                                int64_t batch, int columns, int rows, int slots,
                                int multiprocessors) {
  constexpr int kBlock = 64;
  using Layout = MultiplyLayout<kBlock, false>;
  CUtensorMap x_map, weight_map, y_map;
  encode_map<BFloat16>(x_map, "x", x, batch, columns * kBlock, columns * kBlock, Layout::kSamples);
  encode_map<BFloat16>(weight_map, "weight", weight, rows * slots * kBlock, kBlock, kBlock,
                       kTileWidth);
  encode_map<BFloat16>(y_map, "y", y, batch, rows * kBlock, rows * kBlock, Layout::kGroupSamples);
  const int panels = int(divide_up(batch, Layout::kSamples));
  const Multiply task{sources, nullptr, rows, slots, slots, panels, false};
  return launch_clusters(multiply_kernel<kBlock, BFloat16, false, false>, 2, multiprocessors,
                         3 * kWarpGroup, Layout::shared_bytes(slots), nullptr, x_map, weight_map,
                         y_map, task);
}
