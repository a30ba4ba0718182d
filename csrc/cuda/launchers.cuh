// What the launchers share.
#pragma once

#include <type_traits>

#include "api.h"
#include "storage.cuh"

namespace dnc::cuda {

constexpr int kLanes = 32;
// Transposed samples are filled up to a multiple of this, the most that a tile of any kernel holds.
constexpr int64_t kSamplePad = 256;

template <class A, class B>
__host__ __device__ constexpr auto divide_up(A a, B b) {
  return (a + b - 1) / b;
}

__host__ __device__ constexpr int64_t padded_batch(int64_t batch) {
  return divide_up(batch, kSamplePad) * kSamplePad;
}

// Why the driver refused this thread's last call, where it can be told better than by a number.
inline thread_local char refusal[256] = "";

// Makes a device current for a call, and the one before it again.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    refusal[0] = 0;
    error_ = cudaGetDevice(&before_);
    if (error_ == cudaSuccess && before_ != device) error_ = cudaSetDevice(device);
    changed_ = error_ == cudaSuccess && before_ != device;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  cudaError_t error() const { return error_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_;
};

// Call start(T()) with the storage type, on the place's device.
template <class Start>
int with_type(dnc_place place, dnc_dtype dtype, Start start) {
  const OnDevice on(place.device);
  if (on.error() != cudaSuccess) return on.error();
  switch (dtype) {
    case dnc_float32:
      return start(float());
    case dnc_bfloat16:
      return start(BFloat16());
    case dnc_float16:
      return start(Half());
  }
  return cudaErrorInvalidValue;
}

template <int n>
struct Size {
  static constexpr int value = n;
};

// Call start(Size<size>()) for what is 1, 2 or 4.
template <class Start>
cudaError_t with_size(int64_t size, Start start) {
  switch (size) {
    case 1:
      return start(Size<1>());
    case 2:
      return start(Size<2>());
    case 4:
      return start(Size<4>());
  }
  return cudaErrorInvalidValue;
}

inline int64_t tiles(const dnc_table& table) { return divide_up(table.columns, table.tile); }

inline cudaStream_t stream_of(dnc_place place) { return static_cast<cudaStream_t>(place.stream); }

}  // namespace dnc::cuda
