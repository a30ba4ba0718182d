// The accesses of all memory ports in a junction cycle, as dnc_hw/junction_unit.py makes them.
#include <algorithm>

#include "engine.h"
#include "rotation.h"

namespace dnc::hw {

namespace {

enum Memory { kWeight, kBias, kActivation, kSlope, kDelta };
enum Access { kLoad, kForwardRead, kUpdateRead, kAccumulateRead, kWrite, kAccumulateWrite, kClear };

}  // namespace

std::vector<Event> Engine::events(int64_t cycle) const {
  std::vector<Event> found;
  const int64_t junctions = int64_t(machine_.junctions.size());
  const int64_t filled = delta_write_bank(cycle), used = 1 - filled;
  auto add = [&](int64_t clock, int memory, int64_t place, int64_t bank, int access, size_t step) {
    found.push_back({int32_t(cycle), int32_t(clock), memory, int32_t(place), int32_t(bank), access,
                     int32_t(step)});
  };
  for (int64_t i = 0; i < junctions; i++) {
    const int64_t left_banks = activation_banks(junctions, i);
    const int64_t right_banks = activation_banks(junctions, i + 1);
    const bool hidden = i + 1 < junctions;
    const std::vector<Step>& steps = issues_[size_t(i)].steps;
    for (size_t n = 0; n < steps.size(); n++) {
      const Step& step = steps[n];
      const int64_t read = step.clock, written = read + 1 + machine_.pipeline;
      add(read, kWeight, i + 1, 0, kForwardRead, n);
      add(read, kActivation, i, forward_bank(cycle, left_banks), kForwardRead, n);
      add(read, kActivation, i, update_bank(cycle, left_banks), kUpdateRead, n);
      add(written, kWeight, i + 1, 0, kWrite, n);
      if (i > 0) {
        add(read, kSlope, i, update_bank(cycle, left_banks), kUpdateRead, n);
        add(read, kDelta, i, filled, kAccumulateRead, n);
        add(written, kDelta, i, filled, kAccumulateWrite, n);
      }
      if (step.start_count > 0) {
        add(read, kDelta, i + 1, used, kUpdateRead, n);
        if (hidden) add(written, kDelta, i + 1, used, kClear, n);
      }
      if (step.finish_count > 0) {
        add(read, kBias, i + 1, 0, kForwardRead, n);
        add(written, kBias, i + 1, 0, kWrite, n);
        if (hidden) {
          add(written + 1, kActivation, i + 1, write_bank(cycle, right_banks), kWrite, n);
          add(written + 1, kSlope, i + 1, write_bank(cycle, right_banks), kWrite, n);
        } else {
          add(written + 1, kDelta, i + 1, filled, kWrite, n);
        }
      }
    }
  }
  const Junction& first = machine_.junctions.front();
  const int64_t words = first.lanes * first.depth();
  const int64_t issue_clocks = cycle_clocks() - kFlushClocks - machine_.pipeline;
  const int64_t share = (words + issue_clocks - 1) / issue_clocks;
  const int64_t bank = write_bank(cycle, activation_banks(junctions, 0));
  for (int64_t clock = 0; clock * share < words; clock++) {
    bool loads = false;
    for (int64_t at = clock * share; at < std::min((clock + 1) * share, words); at++) {
      const int64_t lane = at % first.lanes, word = at / first.lanes;
      loads |= (first.interleaved ? at : lane * first.depth() + word) < first.n_in;
    }
    if (loads) add(clock, kActivation, 0, bank, kLoad, size_t(clock));
  }
  return found;
}

}  // namespace dnc::hw
