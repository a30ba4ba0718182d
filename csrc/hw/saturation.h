// How often a junction's units clipped a result; dnc_hw/saturation.py has the notation.
#pragma once

#include <cstdint>

namespace dnc::hw {

struct Saturation {
  int64_t sums = 0, products = 0, partial_deltas = 0, parameters = 0;
};

}  // namespace dnc::hw
