// Between the caller's batch-major tensors and the kernels' tiles: [features][samples].
#pragma once

#include <cstdlib>

#include "kernels.h"
#include "simd.hpp"

namespace dnc::DNC_ISA {

DNC_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DNC_INLINE int64_t round_up(int64_t a, int64_t step) { return (a + step - 1) / step * step; }
DNC_INLINE int64_t divide_up(int64_t a, int64_t step) { return (a + step - 1) / step; }

// Where a row's slots in a tile begin, counted from the row's first, and how many there are.
DNC_INLINE int64_t first_slot(const Direction& d, int64_t tile, int64_t row) {
  return d.per_tile ? tile * d.per_tile : d.start[tile * d.rows + row];
}
DNC_INLINE int64_t slot_count(const Direction& d, int64_t tile, int64_t row) {
  return d.per_tile ? d.per_tile : first_slot(d, tile + 1, row) - first_slot(d, tile, row);
}

// Memory that a thread keeps from call to call, since fresh pages cost more than the packing.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  void* reserve(int64_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = round_up(bytes, 4096);
      data_ = std::aligned_alloc(4096, size_t(size_));
      if (data_ == nullptr) std::abort();
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Copy samples x features into tile[feature * samples_stride + sample], widened to T; samples past
// `samples` up to the next full vector become zero.
template <class S, class T>
void pack(const S* source, int64_t batch_stride, int64_t feature_stride, int64_t samples,
          int64_t features, T* tile, int64_t samples_stride) {
  constexpr int n = lanes<T>;
  const int64_t padded = round_up(samples, n);
  int64_t done_features = 0;
  if (feature_stride == 1) {
    for (; done_features + n <= features; done_features += n) {
      for (int64_t b = 0; b < padded; b += n) {
        Vec<T> square[n];
        DNC_UNROLL for (int i = 0; i < n; i++) {
          square[i] = b + i < samples ? load_wide(source + (b + i) * batch_stride + done_features)
                                      : Vec<T>{};
        }
        transpose<T>(square);
        DNC_UNROLL for (int i = 0; i < n; i++) {
          store(tile + (done_features + i) * samples_stride + b, square[i]);
        }
      }
    }
  }
  for (int64_t f = done_features; f < features; f++) {
    for (int64_t b = 0; b < samples; b++) {
      tile[f * samples_stride + b] = widen(source[b * batch_stride + f * feature_stride]);
    }
    for (int64_t b = samples; b < padded; b++) tile[f * samples_stride + b] = T(0);
  }
}

// The reverse of pack, rounding to S.
template <class S, class T>
void unpack(const T* tile, int64_t samples_stride, int64_t samples, int64_t features, S* target,
            int64_t batch_stride, int64_t feature_stride) {
  constexpr int n = lanes<T>;
  int64_t done_features = 0;
  if (feature_stride == 1) {
    for (; done_features + n <= features; done_features += n) {
      for (int64_t b = 0; b < samples; b += n) {
        Vec<T> square[n];
        DNC_UNROLL for (int i = 0; i < n; i++) {
          square[i] = load(tile + (done_features + i) * samples_stride + b);
        }
        transpose<T>(square);
        DNC_UNROLL for (int i = 0; i < n; i++) {
          if (b + i < samples) {
            store_narrow(target + (b + i) * batch_stride + done_features, square[i]);
          }
        }
      }
    }
  }
  for (int64_t f = done_features; f < features; f++) {
    for (int64_t b = 0; b < samples; b++) {
      narrow(tile[f * samples_stride + b], target + b * batch_stride + f * feature_stride);
    }
  }
}

}  // namespace dnc::DNC_ISA
