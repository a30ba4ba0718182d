// Numbers in memory (float, bfloat16, half) and in arithmetic (always float).
#pragma once

#include "primitives.cuh"

namespace dnc::cuda {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Numbers in the 16 bytes that a lane moves at once.
template <class T>
constexpr int kVector = 16 / int(sizeof(T));

DNC_DEVICE float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

DNC_DEVICE float widen(float value) { return value; }
DNC_DEVICE float widen(BFloat16 value) { return as_float(uint32_t(value.bits) << 16); }
DNC_DEVICE float widen(Half value) { return half_to_float(value.bits); }

DNC_DEVICE void narrow(float value, float* to) { *to = value; }
DNC_DEVICE void narrow(float value, BFloat16* to) { to->bits = float_to_bfloat16(value); }
DNC_DEVICE void narrow(float value, Half* to) { to->bits = float_to_half(value); }

template <class T>
DNC_DEVICE void widen(const uint4& raw, float (&values)[kVector<T>]) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
  for (int i = 0; i < 4; i++) {
    if constexpr (sizeof(T) == 4) {
      values[i] = as_float(words[i]);
    } else {
      values[2 * i] = widen(T{uint16_t(words[i])});
      values[2 * i + 1] = widen(T{uint16_t(words[i] >> 16)});
    }
  }
}

DNC_DEVICE float positive(float value, bool relu) {
  // NaN stays NaN
  return relu && value < 0 ? 0.0f : value;
}

__host__ __device__ inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace dnc::cuda
