// The fast engine: a machine with its contents, one junction cycle at a time.
//
// Within a junction cycle every row is read before it is written, so the units' order does not show
// except where partial deltas overtake each other; `surviving_edges` settles that once. What is
// computed per cycle is therefore only arithmetic, on whole junctions.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "issue.h"
#include "saturation.h"

namespace dnc::hw {

// Sums outside [-half_span, half_span) give the ends and slope 1; a clipped ReLU has no values.
struct ActivationTable {
  std::vector<int64_t> values, slopes;
  int64_t half_span;
};

struct Machine {
  std::vector<Junction> junctions;
  // activation after each junction
  std::vector<ActivationTable> tables;
  int integer_bits, fraction_bits;
  bool rounds_after_clip;
  int64_t pipeline;
  Policy policy;
  bool winner_skips_last_clock;
};

// cycle, clock, memory, place, bank, access, step: dnc_hw/events.py
using Event = std::array<int32_t, 7>;

// Where a run writes what it recorded; pointers are null where nothing is wanted.
//
// | name         | meaning                                        | shape, per junction |
// |--------------|------------------------------------------------|---------------------|
// | activations  | written by feed-forward                        | [cycles, n_out]     |
// | slopes       | their derivatives, not of the last junction    | [cycles, n_out]     |
// | deltas       | read by the update                             | [cycles, n_out]     |
// | output_delta | written, of the last junction only             | [cycles, n_out]     |
struct Record {
  std::vector<int64_t*> activations, slopes, deltas;
  int64_t* output_delta = nullptr;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // pixels: [cycles, n_in]; labels: [cycles], -1 for none; winners: [cycles]
  virtual void run(const uint8_t* pixels, const int64_t* labels, const int64_t* codes,
                   int64_t cycles, int64_t* winners, const Record* record) = 0;
  virtual std::vector<int64_t> weights(size_t junction) const = 0;
  virtual std::vector<int64_t> biases(size_t junction) const = 0;

  const std::vector<Issue>& issues() const { return issues_; }
  // per junction, since the start
  const std::vector<Saturation>& saturation() const { return saturation_; }
  int64_t cycle_clocks() const;
  // accesses of the memory ports in junction cycle `cycle`, unordered
  std::vector<Event> events(int64_t cycle) const;

 protected:
  explicit Engine(const Machine& machine);

  Machine machine_;
  std::vector<Issue> issues_;
  std::vector<Saturation> saturation_;
};

// weights: [edges] and biases: [n_out] per junction; isa: position in kInstructionSets
std::unique_ptr<Engine> make_engine(const Machine& machine,
                                    const std::vector<std::vector<int64_t>>& weights,
                                    const std::vector<std::vector<int64_t>>& biases, int isa);

}  // namespace dnc::hw
