// When the rows of a junction are issued, and which partial deltas survive; dnc_hw/issue.py is the
// oracle and has the notation.
#pragma once

#include <cstdint>
#include <vector>

namespace dnc::hw {

enum class Policy { stall, forward, emulate };

struct Junction {
  int64_t n_in, n_out, lanes;
  bool interleaved;
  std::vector<int32_t> left, right;

  int64_t edges() const { return static_cast<int64_t>(left.size()); }
  int64_t rows() const { return (edges() + lanes - 1) / lanes; }
  int64_t depth() const { return (n_in + lanes - 1) / lanes; }
  int64_t memory(int64_t neuron) const { return interleaved ? neuron % lanes : neuron / depth(); }
  int64_t word(int64_t neuron) const { return interleaved ? neuron / lanes : neuron % depth(); }
};

struct Step {
  int64_t clock;
  std::vector<int32_t> edges;
  // right neurons that begin, and end, with this step: first and count
  int32_t starts, start_count, finishes, finish_count;
};

struct Clash {
  int64_t row, memory, reads;
};

struct Hazard {
  int64_t clock, previous_clock, memory, word, gap;
};

struct Issue {
  std::vector<Step> steps;
  std::vector<Clash> clashes;
  std::vector<Hazard> hazards;
  int64_t clash_stalls = 0, hazard_stalls = 0;

  int64_t clocks() const { return steps.back().clock + 1; }
};

Issue make_issue(const Junction& junction, int64_t pipeline, bool accumulates, bool stalls);

// The edges whose deltas reach their left neuron, by issue: [length, n_in], `edges` where none is.
// Under `emulate` a sum that a later write overtakes is lost, with all that only it held.
std::vector<int32_t> surviving_edges(const Junction& junction, const Issue& issue, int64_t pipeline,
                                     Policy policy);

// The sums of partial deltas under `emulate`, lost ones included, in the order of their issue: an
// edge and the one whose sum it adds to, `edges` for none.
struct PartialSum {
  int32_t edge, found;
};
std::vector<PartialSum> partial_sums(const Junction& junction, const Issue& issue,
                                     int64_t pipeline);

}  // namespace dnc::hw
