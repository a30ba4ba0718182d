// What the products read: activations with a feature's samples side by side, and weights in the
// order of a table.
//
// Floors, with M samples, n features, E weights, in bytes over the bandwidth of memory: transposing
// moves 2 M n numbers (M = 16384, n = 4096, float32: 537 MB, 125 us at 4.3 TB/s); packing reads a
// weight, its order (4 bytes) and its offset (2) and writes 4: at most 14 E (E = 2^21: 29 MB, 7
// us), where backward weights come in sectors of 32 bytes for one weight, from L2.
//
// Reading weights through the order in the products instead would cost 4 bytes more and a sector
// per weight for each 128 samples, so it is cheaper to pack them from the first tile of samples on.
#include "table.cuh"

namespace dnc::cuda {

namespace {

constexpr int kSide = 32;
constexpr int kRowsAtOnce = 8;
constexpr int kPackWarps = 8;

// A tile of 32 x 32 numbers per block, one column of padding so that no bank is met twice.
template <class T>
__global__ void transpose(const T* x, int64_t batch_stride, int64_t feature_stride, int64_t batch,
                          int64_t features, int64_t padded, T* out) {
  T* tile = reinterpret_cast<T*>(shared_memory());
  const int lane = threadIdx.x % kLanes, first = threadIdx.x / kLanes;
  const int64_t across = divide_up(features, kSide);
  const int64_t feature = blockIdx.x % across * kSide, sample = blockIdx.x / across * kSide;
  for (int i = first; i < kSide; i += kRowsAtOnce) {
    T value{};
    if (sample + i < batch && feature + lane < features) {
      value = x[(sample + i) * batch_stride + (feature + lane) * feature_stride];
    }
    shared_store(tile + i * (kSide + 1) + lane, value);
  }
  __syncthreads();
  for (int i = first; i < kSide; i += kRowsAtOnce) {
    if (feature + i < features) {
      out[(feature + i) * padded + sample + lane] = shared_load<T>(tile + lane * (kSide + 1) + i);
    }
  }
}

// A warp per group and tile.
template <class T>
__global__ void pack(dnc_table table, int64_t units, const T* weight, float* packed) {
  const int64_t unit = blockIdx.x * int64_t(kPackWarps) + threadIdx.x / kLanes;
  if (unit >= units) return;
  const Cell cell(table, unit);
  const int64_t share = table.share, last = table.first[unit + 1] * 4 * share;
  for (int64_t i = table.first[unit] * 4 * share + threadIdx.x % kLanes; i < last; i += kLanes) {
    const int64_t at = cell.weight(i);
    packed[i] = at < 0 ? 0.0f : widen(weight[at]);
  }
}

}  // namespace

}  // namespace dnc::cuda

using namespace dnc::cuda;

int64_t dnc_cuda_padded_batch(int64_t batch) { return padded_batch(batch); }

int dnc_cuda_transpose(dnc_place place, dnc_dtype dtype, const void* x, int64_t batch_stride,
                       int64_t feature_stride, int64_t batch, int64_t features, void* out) {
  return with_type(place, dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t padded = padded_batch(batch);
    return launch(transpose<T>, divide_up(features, kSide) * (padded / kSide), kRowsAtOnce * kLanes,
                  kSide * (kSide + 1) * sizeof(T), stream_of(place), static_cast<const T*>(x),
                  batch_stride, feature_stride, batch, features, padded, static_cast<T*>(out));
  });
}

int dnc_cuda_pack(dnc_place place, dnc_dtype dtype, const dnc_table* table, const void* weight,
                  float* packed) {
  return with_type(place, dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t units = tiles(*table) * table->groups;
    return launch(pack<T>, divide_up(units, kPackWarps), kPackWarps * kLanes, 0, stream_of(place),
                  *table, units, static_cast<const T*>(weight), packed);
  });
}
