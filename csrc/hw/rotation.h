// Banks and delays of the junction cycles; dnc_hw/schedule.py is the oracle and has the notation.
#pragma once

#include <cstdint>

namespace dnc::hw {

constexpr int64_t kDeltaBanks = 2;
// a left read and the activation table take one clock each
constexpr int64_t kFlushClocks = 2;

inline int64_t activation_banks(int64_t junctions, int64_t layer) {
  return 2 * (junctions - layer) + 1;
}
inline int64_t forward_bank(int64_t cycle, int64_t banks) { return cycle % banks; }
inline int64_t write_bank(int64_t cycle, int64_t banks) { return (cycle + 1) % banks; }
inline int64_t update_bank(int64_t cycle, int64_t banks) { return (cycle + 2) % banks; }
inline int64_t delta_write_bank(int64_t cycle) { return cycle % kDeltaBanks; }

// junctions count from 0 here
inline int64_t update_delay(int64_t junctions, int64_t junction) {
  return 2 * junctions - junction;
}
inline int64_t training_latency(int64_t junctions) { return 2 * junctions + 1; }

}  // namespace dnc::hw
