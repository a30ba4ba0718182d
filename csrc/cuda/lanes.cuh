// Sums over the lanes of a warp.
#pragma once

#include "primitives.cuh"

namespace dnc::cuda {

// Sums over groups of `count` lanes, `apart` from each other: the lane of number i in its group
// gets that of value i. A recursion, for the compiler does not unroll a loop of halvings and would
// keep the values in memory.
template <int count, int apart>
DNC_DEVICE float sum_lanes(const float (&value)[count], int lane) {
  if constexpr (count == 1) {
    return value[0];
  } else {
    const bool odd = lane & apart;
    float sum[count / 2];
#pragma unroll
    for (int i = 0; i < count; i += 2) {
      const float kept = odd ? value[i + 1] : value[i];
      const float sent = odd ? value[i] : value[i + 1];
      sum[i / 2] = kept + shuffle_xor(sent, apart);
    }
    return sum_lanes<count / 2, 2 * apart>(sum, lane);
  }
}

// Sums over all lanes: lane i gets that of value i % count.
template <int count>
DNC_DEVICE float sum_warp(const float (&value)[count], int lane) {
  float sum = sum_lanes<count, 1>(value, lane);
#pragma unroll
  for (int apart = count; apart < 32; apart *= 2) sum += shuffle_xor(sum, apart);
  return sum;
}

}  // namespace dnc::cuda
