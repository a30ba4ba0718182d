// 16-bit numbers as floats, from a table: the compiler's own conversion may be a call.
#pragma once

#include <vector>

namespace dnc::cuda {

template <class T>
float widened(uint16_t bits) {
  static const std::vector<float> values = [] {
    std::vector<float> all;
    for (int i = 0; i <= 0xffff; ++i) {
      all.push_back(widen(T{static_cast<uint16_t>(i)}));
    }
    return all;
  }();
  return values[bits];
}

}  // namespace dnc::cuda
