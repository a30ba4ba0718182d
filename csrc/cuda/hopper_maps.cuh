// Tensor maps: how the copy engine sees a matrix of 16-bit numbers, 64 features at a time.
#pragma once

#include <cstdio>

#include "hopper.cuh"
#include "launchers.cuh"

#ifndef DNC_EMULATED
#include <cudaTypedefs.h>

namespace dnc::cuda {

// The driver's encoder, found at run time so that the library loads without a driver.
inline PFN_cuTensorMapEncodeTiled_v12000 map_encoder() {
  static const auto encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                               12000, cudaEnableDefault, &result);
    const bool usable = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(usable ? function : nullptr);
  }();
  return encoder;
}

// Describes [rows, features] of T, rows `stride` elements apart, in boxes of 64 features x
// box_rows. Where the driver refuses, `refusal` says which map of what.
template <class T>
cudaError_t encode_map(CUtensorMap& map, const char* name, const void* data, int64_t rows,
                       int64_t features, int64_t stride, int box_rows) {
  const auto encode = map_encoder();
  if (encode == nullptr) return cudaErrorSymbolNotFound;
  const cuuint64_t sizes[2] = {cuuint64_t(features), cuuint64_t(rows)};
  const cuuint64_t strides[1] = {cuuint64_t(stride) * sizeof(T)};
  const cuuint32_t box[2] = {cuuint32_t(kTileWidth), cuuint32_t(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult result =
      encode(&map,
             std::is_same_v<T, BFloat16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
             2, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return cudaSuccess;
  std::snprintf(refusal, sizeof refusal,
                "the driver refuses the tensor map of %s (CUresult %d): [%lld, %lld] at %p, %lld "
                "elements apart, in boxes of 64 x %d",
                name, int(result), static_cast<long long>(rows), static_cast<long long>(features),
                data, static_cast<long long>(stride), box_rows);
  return cudaErrorInvalidValue;
}

}  // namespace dnc::cuda
#endif
