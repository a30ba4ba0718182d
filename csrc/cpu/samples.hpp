// What the kernels for a few samples share.
#pragma once

#include "kernels.h"
#include "simd.hpp"

namespace dnc::DNC_ISA {

template <class S>
DNC_INLINE S* element(const Matrix& matrix, int64_t sample, int64_t feature) {
  const int64_t at = sample * matrix.batch_stride + feature * matrix.feature_stride;
  return static_cast<S*>(matrix.data) + at;
}

// The same matrix from a sample on.
template <class S>
Matrix from_sample(const Matrix& matrix, int64_t sample) {
  return {element<S>(matrix, sample, 0), matrix.batch_stride, matrix.feature_stride};
}

}  // namespace dnc::DNC_ISA
