// The plain C side of the block kernels, and what both paths share: adding partial sums.
#include "block_paths.cuh"

namespace dnc::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kEach = 4;  // numbers that a thread adds

// out[i] = the sum of `count` partial sums, in order, of which the next begins `size` further.
template <class T>
__global__ void add_partials(const float* partial, int count, int64_t size, T* out) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kEach;
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
  return launch(add_partials<T>, divide_up(size, kThreads * kEach), kThreads, 0, task.stream,
                partial, count, size, static_cast<T*>(out));
}

int64_t weights(const dnc_blocks& blocks) {
  return blocks.rows * blocks.slots * blocks.block * blocks.block;
}

int64_t n_out(const dnc_blocks& blocks) { return blocks.rows * blocks.block; }

Splits splits_of(dnc_path path, const dnc_blocks& blocks, int multiprocessors, int64_t batch) {
  return path == dnc_hopper ? hopper_splits(blocks, multiprocessors, batch)
                            : portable_splits(blocks, multiprocessors, batch);
}

// Call start(T()) with a 16-bit storage type, on the place's device, if there is anything to do.
template <class Start>
int with_half(dnc_place place, dnc_dtype dtype, const dnc_blocks& blocks, int64_t batch,
              Start start) {
  // coordinates of the copy engine, and the kernels' own, are int32
  const int64_t largest =
      divide_up(batch, 64) * (blocks.rows > blocks.columns ? blocks.rows : blocks.columns);
  if ((blocks.block != 64 && blocks.block != 128) || batch > INT32_MAX - 256 ||
      largest > INT32_MAX || (blocks.rows * blocks.slots + 1) * blocks.block > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  const OnDevice on(place.device);
  if (on.error() != cudaSuccess) return on.error();
  switch (dtype) {
    case dnc_bfloat16:
      return start(BFloat16());
    case dnc_float16:
      return start(Half());
    default:
      return cudaErrorInvalidValue;
  }
}

template <class T>
cudaError_t multiply(dnc_path path, const BlockTask& task, bool transposed, Samples from,
                     const void* weight, const void* bias, bool relu, void* out) {
  if (task.batch == 0) return cudaSuccess;
  return path == dnc_hopper ? hopper_multiply<T>(task, transposed, from, weight, bias, relu, out)
                            : portable_multiply<T>(task, transposed, from, weight, bias, relu, out);
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int dnc_blocks_forward(dnc_place place, dnc_dtype dtype, dnc_path path, int multiprocessors,
                       const dnc_blocks* blocks, const void* x, int64_t x_stride,
                       const void* weight, const void* bias, int relu, void* y, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    return multiply<decltype(type)>(path, task, false, {x, x_stride}, weight, bias, relu != 0, y);
  });
}

int dnc_blocks_grad_input(dnc_place place, dnc_dtype dtype, dnc_path path, int multiprocessors,
                          const dnc_blocks* blocks, const void* grad_y, int64_t grad_y_stride,
                          const void* weight, void* grad_x, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    return multiply<decltype(type)>(path, task, true, {grad_y, grad_y_stride}, weight, nullptr,
                                    false, grad_x);
  });
}

int dnc_blocks_backward(dnc_place place, dnc_dtype dtype, dnc_path path, int multiprocessors,
                        const dnc_blocks* blocks, const void* grad_y, int64_t grad_y_stride,
                        const void* x, int64_t x_stride, const void* weight, void* grad_x,
                        void* grad_weight, void* grad_bias, void* workspace, int64_t batch) {
  return with_half(place, dtype, *blocks, batch, [&](auto type) {
    using T = decltype(type);
    const BlockTask task{*blocks, multiprocessors, stream_of(place), batch};
    const int64_t outputs = n_out(*blocks);
    const Splits splits = splits_of(path, *blocks, multiprocessors, batch);
    float* const weight_partial = static_cast<float*>(workspace);
    float* const bias_partial = weight_partial + splits.count * weights(*blocks);
    const Partials partials{weight_partial, grad_bias == nullptr ? nullptr : bias_partial};
    const Samples from_y{grad_y, grad_y_stride}, from_x{x, x_stride};
    // an empty batch has no partial sums
    const int parts = batch == 0 ? 0 : splits.count;
    cudaError_t error =
        batch == 0 ? cudaSuccess
        : path == dnc_hopper
            ? hopper_backward<T>(task, from_y, from_x, weight, grad_x, splits, partials)
            : portable_backward<T>(task, from_y, from_x, weight, grad_x, splits, partials);
    if (error == cudaSuccess) {
      error = start_add<T>(task, weight_partial, parts, weights(*blocks), grad_weight);
    }
    if (error == cudaSuccess && grad_bias != nullptr) {
      error = start_add<T>(task, bias_partial, parts * splits.bias_parts, outputs, grad_bias);
    }
    return error;
  });
}

int64_t dnc_blocks_workspace_bytes(dnc_path path, int multiprocessors, const dnc_blocks* blocks,
                                   int64_t batch) {
  const Splits splits = splits_of(path, *blocks, multiprocessors, batch);
  return splits.count * (weights(*blocks) + splits.bias_parts * n_out(*blocks)) *
         int64_t{sizeof(float)};
}
