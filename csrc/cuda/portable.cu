// Block kernels for any GPU since sm_80: two buffers in shared memory, tile products by warps.
//
// | name    | meaning                                                                          |
// |---------|----------------------------------------------------------------------------------|
// | b       | edge of a weight block: 64 or 128 features                                       |
// | output  | a block of b features of the result: a right block row, or a left block column   |
// |         | when transposed                                                                  |
// | panel   | the samples that a block of threads has at once: 128, or 64 for grad_weight      |
// | chunk   | 64 of the features (multiply) or samples (grad_weight) that are summed over      |
#include "block_paths.cuh"
#include "warp_tiles.cuh"

namespace dnc::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 64;
constexpr int kPanel = 128;
// two chunks of memory rows: in use, on the way
constexpr int kBuffers = 2;
// rows begin 16 bytes further round the banks than the ones before
constexpr int kPad = 8;
constexpr int kSumPad = 4;

// Eight warps share kRows x kColumns sums: four by rows, two by columns.
template <class T, int kRows, int kColumns, bool kLeftTransposed, bool kRightTransposed>
class WarpSums {
 public:
  static constexpr int kRowTiles = kRows / 64, kColumnTiles = kColumns / 32;

  DNC_DEVICE WarpSums() {
    for (auto& row : sums_) {
      for (SumTile& sum : row) clear_tile(sum);
    }
  }

  // Adds the product of chunks in shared memory.
  DNC_DEVICE void add(const T* left, int left_stride, const T* right, int right_stride) {
#pragma unroll
    for (int k = 0; k < kChunk; k += 16) {
      RightTile<T, kRightTransposed> rights[kColumnTiles];
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const int column = first_column() + j * 16;
        load_tile(rights[j],
                  kRightTransposed ? right + k * right_stride + column
                                   : right + column * right_stride + k,
                  right_stride);
      }
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        const int row = first_row() + i * 16;
        LeftTile<T, kLeftTransposed> tile;
        load_tile(tile,
                  kLeftTransposed ? left + k * left_stride + row : left + row * left_stride + k,
                  left_stride);
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          add_product(sums_[i][j], tile, rights[j]);
        }
      }
    }
  }

  DNC_DEVICE void store(float* to, int stride) const {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        store_tile(to + (first_row() + i * 16) * stride + first_column() + j * 16, sums_[i][j],
                   stride);
      }
    }
  }

 private:
  DNC_DEVICE static int first_row() { return int(threadIdx.x) / 32 % 4 * kRowTiles * 16; }
  DNC_DEVICE static int first_column() { return int(threadIdx.x) / 128 * kColumnTiles * 16; }

  SumTile sums_[kRowTiles][kColumnTiles];
};

// Begins to copy kRows rows of kWidth numbers, zeros from row `rows` on.
template <int kRows, int kWidth, class T>
DNC_DEVICE void copy_rows(T* to, const T* from, int64_t stride, int64_t rows) {
  constexpr int kVectors = kWidth / kVector<T>;
  for (int i = int(threadIdx.x); i < kRows * kVectors; i += kThreads) {
    const int row = i / kVectors, vector = i % kVectors * kVector<T>;
    T* const place = to + row * (kWidth + kPad) + vector;
    if (row < rows) {
      copy_async(place, from + row * stride + vector);
    } else {
      shared_store(place, uint4{0, 0, 0, 0});
    }
  }
}

template <class T, int kBlock, bool kTransposed>
struct MultiplyBuffers {
  static constexpr int kInputStride = kChunk + kPad;
  static constexpr int kInput = kPanel * kInputStride;
  // rows of W are right features
  static constexpr int kWeightRows = kTransposed ? kChunk : kBlock;
  static constexpr int kWeightWidth = kTransposed ? kBlock : kChunk;
  static constexpr int kWeightStride = kWeightWidth + kPad;
  static constexpr int kNumbers = kInput + kWeightRows * kWeightStride;  // of a buffer
  static constexpr int kSumStride = kBlock + kSumPad;
  static constexpr int kCopyBytes = kBuffers * kNumbers * int(sizeof(T));
  static constexpr int kSumBytes = kPanel * kSumStride * int(sizeof(float));
  static constexpr int kBytes = kCopyBytes > kSumBytes ? kCopyBytes : kSumBytes;

  DNC_DEVICE static T* input(int buffer) {
    return reinterpret_cast<T*>(shared_memory()) + buffer * kNumbers;
  }
  DNC_DEVICE static T* weight(int buffer) { return input(buffer) + kInput; }
  DNC_DEVICE static float* sums() { return reinterpret_cast<float*>(shared_memory()); }
};

template <class T>
struct MultiplyTask {
  const int32_t* table;  // sources, or targets when transposed: [outputs, terms]
  const T* from;
  int64_t stride;
  const T* weight;
  const T* bias;
  T* out;
  int64_t batch, outputs, terms, slots;
  bool relu;
};

// One output for one panel of samples.
template <class T, int kBlock, bool kTransposed>
__global__ void __launch_bounds__(kThreads, 1) block_multiply(const MultiplyTask<T> task) {
  using Buffers = MultiplyBuffers<T, kBlock, kTransposed>;
  constexpr int kChunks = kBlock / kChunk;
  const int64_t output = blockIdx.x % task.outputs;
  const int64_t sample = blockIdx.x / task.outputs * kPanel;
  const auto copy_chunk = [&](int64_t chunk) {
    const int buffer = int(chunk % kBuffers);
    const int64_t entry = output * task.terms + chunk / kChunks;
    const int64_t stored = task.table[entry];
    const int64_t flat = kTransposed ? stored : entry;
    const int64_t source = kTransposed ? stored / task.slots : stored;
    const int64_t feature = chunk % kChunks * kChunk;
    copy_rows<kPanel, kChunk>(Buffers::input(buffer),
                              task.from + sample * task.stride + source * kBlock + feature,
                              task.stride, task.batch - sample);
    copy_rows<Buffers::kWeightRows, Buffers::kWeightWidth>(
        Buffers::weight(buffer),
        task.weight + flat * kBlock * kBlock + (kTransposed ? feature * kBlock : feature),
        int64_t{kBlock}, int64_t{kBlock});
  };
  WarpSums<T, kPanel, kBlock, false, kTransposed> sums;
  const int64_t chunks = task.terms * kChunks;
  copy_chunk(0);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    copies_wait();
    __syncthreads();
    if (chunk + 1 < chunks) copy_chunk(chunk + 1);
    const int buffer = int(chunk % kBuffers);
    sums.add(Buffers::input(buffer), Buffers::kInputStride, Buffers::weight(buffer),
             Buffers::kWeightStride);
  }
  __syncthreads();
  sums.store(Buffers::sums(), Buffers::kSumStride);
  __syncthreads();
  for (int i = int(threadIdx.x); i < kPanel * kBlock; i += kThreads) {
    const int row = i / kBlock, column = i % kBlock;
    const int64_t feature = output * kBlock + column;
    if (sample + row < task.batch) {
      const float sum = shared_load<float>(Buffers::sums() + row * Buffers::kSumStride + column);
      const float bias = task.bias == nullptr ? 0.0f : widen(task.bias[feature]);
      narrow(positive(sum + bias, task.relu),
             task.out + (sample + row) * task.outputs * kBlock + feature);
    }
  }
}

template <class T>
struct GradWeightTask {
  const int32_t* sources;
  const T* grad_y;
  int64_t grad_y_stride;
  const T* x;
  int64_t x_stride;
  float* weight_partial;
  float* bias_partial;
  int64_t batch, rows, slots, splits;
};

// One weight block for one split of the batch; a row's first block also sums its grad_y.
template <class T, int kBlock>
__global__ void __launch_bounds__(kThreads, 1) block_grad_weight(const GradWeightTask<T> task) {
  constexpr int kStride = kBlock + kPad, kNumbers = kChunk * kStride;
  const int64_t blocks = task.rows * task.slots;
  const int64_t flat = blockIdx.x % blocks, split = blockIdx.x / blocks;
  const int64_t row = flat / task.slots, chunks = divide_up(task.batch, kChunk);
  const int64_t begin = chunks * split / task.splits, end = chunks * (split + 1) / task.splits;
  const T* const grad_y = task.grad_y + row * kBlock;
  const T* const x = task.x + task.sources[flat] * int64_t{kBlock};
  T* const buffers = reinterpret_cast<T*>(shared_memory());
  const auto copy_chunk = [&](int64_t chunk) {
    T* const buffer = buffers + chunk % kBuffers * 2 * kNumbers;
    const int64_t sample = chunk * kChunk, left = task.batch - sample;
    copy_rows<kChunk, kBlock>(buffer, grad_y + sample * task.grad_y_stride, task.grad_y_stride,
                              left);
    copy_rows<kChunk, kBlock>(buffer + kNumbers, x + sample * task.x_stride, task.x_stride, left);
  };
  const bool sums_bias =
      task.bias_partial != nullptr && flat % task.slots == 0 && threadIdx.x < unsigned{kBlock};
  float bias = 0;
  WarpSums<T, kBlock, kBlock, true, true> sums;
  copy_chunk(begin);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    copies_wait();
    __syncthreads();
    if (chunk + 1 < end) copy_chunk(chunk + 1);
    const T* const buffer = buffers + chunk % kBuffers * 2 * kNumbers;
    sums.add(buffer, kStride, buffer + kNumbers, kStride);
    for (int i = 0; sums_bias && i < kChunk; ++i) {
      bias += widen(shared_load<T>(buffer + i * kStride + threadIdx.x));
    }
  }
  sums.store(task.weight_partial + (split * blocks + flat) * kBlock * kBlock, kBlock);
  if (sums_bias) task.bias_partial[(split * task.rows + row) * kBlock + threadIdx.x] = bias;
}

template <class T, int kBlock, bool kTransposed>
cudaError_t start_multiply(const BlockTask& task, Samples from, const void* weight,
                           const void* bias, bool relu, void* out) {
  const dnc_blocks& blocks = task.blocks;
  const MultiplyTask<T> sizes{kTransposed ? blocks.targets : blocks.sources,
                              static_cast<const T*>(from.data),
                              from.stride,
                              static_cast<const T*>(weight),
                              static_cast<const T*>(bias),
                              static_cast<T*>(out),
                              task.batch,
                              kTransposed ? blocks.columns : blocks.rows,
                              kTransposed ? blocks.degree : blocks.slots,
                              blocks.slots,
                              relu};
  return launch(block_multiply<T, kBlock, kTransposed>,
                sizes.outputs * divide_up(task.batch, kPanel), kThreads,
                MultiplyBuffers<T, kBlock, kTransposed>::kBytes, task.stream, sizes);
}

template <class T, int kBlock>
cudaError_t start_grad_weight(const BlockTask& task, Samples grad_y, Samples x,
                              const Splits& splits, const Partials& partials) {
  const dnc_blocks& blocks = task.blocks;
  const GradWeightTask<T> sizes{blocks.sources, static_cast<const T*>(grad_y.data),
                                grad_y.stride,  static_cast<const T*>(x.data),
                                x.stride,       partials.weight,
                                partials.bias,  task.batch,
                                blocks.rows,    blocks.slots,
                                splits.count};
  constexpr int kBytes = kBuffers * 2 * kChunk * (kBlock + kPad) * int(sizeof(T));
  return launch(block_grad_weight<T, kBlock>, blocks.rows * blocks.slots * splits.count, kThreads,
                kBytes, task.stream, sizes);
}

}  // namespace

// Two blocks of threads for each multiprocessor, as far as there are samples.
Splits portable_splits(const dnc_blocks& blocks, int multiprocessors, int64_t batch) {
  const int64_t chunks = divide_up(batch, kChunk);
  const int64_t wanted = divide_up(2 * int64_t{multiprocessors}, blocks.rows * blocks.slots);
  return {int(smaller(wanted, chunks > 0 ? chunks : 1)), 1};
}

template <class T>
cudaError_t portable_multiply(const BlockTask& task, bool transposed, Samples from,
                              const void* weight, const void* bias, bool relu, void* out) {
  if (task.blocks.block == 64) {
    return transposed ? start_multiply<T, 64, true>(task, from, weight, bias, relu, out)
                      : start_multiply<T, 64, false>(task, from, weight, bias, relu, out);
  }
  return transposed ? start_multiply<T, 128, true>(task, from, weight, bias, relu, out)
                    : start_multiply<T, 128, false>(task, from, weight, bias, relu, out);
}

template <class T>
cudaError_t portable_backward(const BlockTask& task, Samples grad_y, Samples x, const void* weight,
                              void* grad_x, const Splits& splits, const Partials& partials) {
  if (grad_x != nullptr) {
    const cudaError_t error =
        portable_multiply<T>(task, true, grad_y, weight, nullptr, false, grad_x);
    if (error != cudaSuccess) return error;
  }
  return task.blocks.block == 64 ? start_grad_weight<T, 64>(task, grad_y, x, splits, partials)
                                 : start_grad_weight<T, 128>(task, grad_y, x, splits, partials);
}

#define DNC_INSTANTIATE(T)                                                                   \
  template cudaError_t portable_multiply<T>(const BlockTask&, bool, Samples, const void*,    \
                                            const void*, bool, void*);                       \
  template cudaError_t portable_backward<T>(const BlockTask&, Samples, Samples, const void*, \
                                            void*, const Splits&, const Partials&);
DNC_INSTANTIATE(BFloat16)
DNC_INSTANTIATE(Half)
#undef DNC_INSTANTIATE

}  // namespace dnc::cuda
