// Kernels with one mistake each, which the emulator has to find.
#include "launchers.cuh"

using namespace dnc::cuda;

namespace {

__global__ void barrier_missed() {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void shuffle_missed() {
  if (threadIdx.x != 7) shuffle_xor(1.0f, 1);
}

__global__ void write_past_the_end() {
  shared_store(shared_memory() + 4 * threadIdx.x, float(threadIdx.x));
}

__global__ void misaligned() { shared_load<float4>(shared_memory() + 4); }

__global__ void copy_never_waited_for(const float* from) {
  copy_async(shared_memory() + 16 * threadIdx.x, from + 4 * threadIdx.x);
}

// no mistake: what was never written is NaN, and a copy is there only when it was waited for
__global__ void early(const float* from, float* seen) {
  copy_async(shared_memory() + 16 * threadIdx.x, from + 4 * threadIdx.x);
  const float before = shared_load<float>(shared_memory() + 16 * threadIdx.x);
  copies_wait();
  __syncthreads();
  if (threadIdx.x == 0) {
    seen[0] = before;
    seen[1] = shared_load<float>(shared_memory() + 16 * 63);
  }
}

__global__ void stride(int words, float* sum) {
  *sum += shared_load<float>(shared_memory() + 4 * words * (threadIdx.x % 32));
}

}  // namespace

extern "C" {

int run(int which, void* data) {
  const auto from = static_cast<const float*>(data);
  switch (which) {
    case 0:
      return launch(barrier_missed, 1, 64, 0, nullptr);
    case 1:
      return launch(shuffle_missed, 1, 64, 0, nullptr);
    case 2:
      return launch(write_past_the_end, 1, 64, 252, nullptr);
    case 3:
      return launch(misaligned, 1, 64, 256, nullptr);
    case 4:
      return launch(copy_never_waited_for, 2, 64, 1024, nullptr, from);
    case 5:
      return launch(early, 1, 64, 1024, nullptr, from, static_cast<float*>(data) + 256);
    case 6:
      return launch(write_past_the_end, 1, 64, 300000, nullptr);
  }
  return 0;
}

// Wavefronts of one warp that reads every n-th word.
int64_t wavefronts(int words) {
  float sum = 0;
  emulator::banks = {true, 0, 0};
  launch(stride, 1, 32, 4 * 32 * 32, nullptr, words, &sum);
  emulator::banks.counted = false;
  return emulator::banks.wavefronts;
}
}
