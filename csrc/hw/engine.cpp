#include "engine.h"

#include <algorithm>

#include "kernels.h"
#include "rotation.h"

namespace dnc::hw {

namespace {

constexpr int64_t kNoLabel = -1;
constexpr int64_t kPixelBits = 8;

// One layer's neurons in every bank of the rotation.
template <class Word>
struct Banks {
  int64_t banks = 0, neurons = 0;
  std::vector<Word> words;

  Banks() = default;
  Banks(int64_t bank_count, int64_t neuron_count)
      : banks(bank_count), neurons(neuron_count), words(size_t(bank_count * neuron_count)) {}

  Word* at(int64_t bank) { return words.data() + bank * neurons; }
};

template <class Word>
class TypedEngine final : public Engine {
 public:
  TypedEngine(const Machine& machine, const std::vector<std::vector<int64_t>>& weights,
              const std::vector<std::vector<int64_t>>& biases, const Kernels<Word>& kernels)
      : Engine(machine),
        kernels_(kernels),
        number_(machine.integer_bits, machine.fraction_bits, machine.rounds_after_clip) {
    const size_t count = machine_.junctions.size();
    for (size_t i = 0; i < count; i++) {
      const Junction& junction = machine_.junctions[i];
      weights_.emplace_back(weights[i].begin(), weights[i].end());
      biases_.emplace_back(biases[i].begin(), biases[i].end());
      begins_.push_back(begins(junction));
      chains_.push_back(
          i == 0 ? std::vector<int32_t>{}
                 : surviving_edges(junction, issues_[i], machine_.pipeline, machine_.policy));
      const bool loses = machine_.policy == Policy::emulate && !issues_[i].hazards.empty();
      partials_.push_back(loses ? partial_sums(junction, issues_[i], machine_.pipeline)
                                : std::vector<PartialSum>{});
      const int64_t banks = activation_banks(int64_t(count), int64_t(i));
      activations_.emplace_back(banks, junction.n_in);
      slopes_.emplace_back(banks, i == 0 ? 0 : junction.n_in);
      deltas_.emplace_back(kDeltaBanks, junction.n_out);
      buffers_.emplace_back(size_t(junction.edges() + 1));
      sums_.emplace_back(size_t(junction.n_out));
    }
    outputs_.resize(size_t(machine_.junctions.back().n_out));
    output_slopes_.resize(outputs_.size());
    labels_.assign(size_t(training_latency(int64_t(count))), kNoLabel);
    codes_.assign(size_t(training_latency(int64_t(count))), 0);
  }

  void run(const uint8_t* pixels, const int64_t* labels, const int64_t* codes, int64_t cycles,
           int64_t* winners, const Record* record) override {
    const int64_t n_in = machine_.junctions.front().n_in;
    for (int64_t n = 0; n < cycles; n++) {
      travel(labels_, labels[n]);
      travel(codes_, codes[n]);
      winners[n] = junction_cycle(pixels + n * n_in, record, n);
    }
  }

  std::vector<int64_t> weights(size_t junction) const override {
    return {weights_[junction].begin(), weights_[junction].end()};
  }
  std::vector<int64_t> biases(size_t junction) const override {
    return {biases_[junction].begin(), biases_[junction].end()};
  }

 private:
  static std::vector<int32_t> begins(const Junction& junction) {
    std::vector<int32_t> begin(size_t(junction.n_out) + 1, 0);
    for (const int32_t right : junction.right) begin[size_t(right) + 1]++;
    for (size_t n = 1; n < begin.size(); n++) begin[n] += begin[n - 1];
    return begin;
  }

  template <class Queue>
  static void travel(Queue& queue, int64_t newest) {
    std::copy_backward(queue.begin(), queue.end() - 1, queue.end());
    queue.front() = newest;
  }

  Tables tables(size_t i) const {
    const Junction& junction = machine_.junctions[i];
    const int64_t length = int64_t(chains_[i].size()) / junction.n_in;
    return {junction.n_in,        junction.n_out,    junction.edges(), length,
            junction.left.data(), begins_[i].data(), chains_[i].data()};
  }

  // All reads of a junction come before its writes, as in the machine; returns the winner.
  int64_t junction_cycle(const uint8_t* pixels, const Record* record, int64_t row) {
    const size_t count = machine_.junctions.size();
    for (size_t i = 0; i < count; i++) {
      feed_forward(i);
      if (i > 0) back_propagate(i);
      if (record) copy_used(i, *record, row);
      update(i);
    }
    // the last junction's outputs meet the label of the same cycle
    const int64_t winner = finish_outputs(record, row);
    if (record) copy_written(*record, row);
    load(pixels);
    cycle_++;
    return winner;
  }

  void load(const uint8_t* pixels) {
    Banks<Word>& inputs = activations_.front();
    Word* word = inputs.at(write_bank(cycle_, inputs.banks));
    const int64_t spare = machine_.fraction_bits - kPixelBits;
    const int64_t left = std::max(spare, int64_t(0)), right = std::max(-spare, int64_t(0));
    for (int64_t n = 0; n < inputs.neurons; n++) word[n] = Word(pixels[n]) << left >> right;
  }

  void feed_forward(size_t i) {
    Banks<Word>& left = activations_[i];
    kernels_.feed_forward(tables(i), number_, weights_[i].data(),
                          left.at(forward_bank(cycle_, left.banks)), buffers_[i].data(),
                          sums_[i].data());
    const bool last = i + 1 == machine_.junctions.size();
    Word* a = outputs_.data();
    Word* slope = output_slopes_.data();
    if (!last) {
      Banks<Word>& right = activations_[i + 1];
      a = right.at(write_bank(cycle_, right.banks));
      slope = slopes_[i + 1].at(write_bank(cycle_, right.banks));
    }
    Word clipped = 0;
    for (size_t n = 0; n < sums_[i].size(); n++) {
      const Word s = number_.add(sums_[i][n], biases_[i][n], clipped);
      look_up(machine_.tables[i], s, a[n], slope[n]);
    }
    saturation_[i].sums += clipped;
  }

  void look_up(const ActivationTable& table, Word s, Word& a, Word& slope) const {
    const Word top = (Word(1) << number_.fraction) - 1;
    if (table.values.empty()) {
      a = std::min(std::max(s, Word(1)), top);
      slope = s > 0 && s <= top ? top : 1;
      return;
    }
    const int64_t span = 2 * table.half_span, entries = int64_t(table.values.size());
    const int64_t offset = int64_t(s) + table.half_span;
    if (offset < 0 || offset >= span) {
      a = offset < 0 ? 1 : top;
      slope = 1;
      return;
    }
    const size_t index = size_t(offset * entries / span);
    a = Word(table.values[index]);
    slope = Word(table.slopes[index]);
  }

  void back_propagate(size_t i) {
    Banks<Word>& slopes = slopes_[i];
    Saturation& saturation = saturation_[i];
    const int64_t before = saturation.partial_deltas;
    kernels_.back_propagate(tables(i), number_, weights_[i].data(),
                            slopes.at(update_bank(cycle_, slopes.banks)), used_deltas(i),
                            buffers_[i].data(), deltas_[i - 1].at(delta_write_bank(cycle_)),
                            saturation);
    // the adders clip sums that are lost later, too
    if (!partials_[i].empty()) saturation.partial_deltas = before + clipped_partials(i);
  }

  int64_t clipped_partials(size_t i) {
    Word clipped = 0;
    // the entry behind the edges stays 0: a sum that adds to none
    partial_.assign(buffers_[i].size(), 0);
    for (const PartialSum& sum : partials_[i]) {
      partial_[sum.edge] = number_.add(partial_[sum.found], buffers_[i][sum.edge], clipped);
    }
    return clipped;
  }

  void update(size_t i) {
    const int code =
        int(codes_[size_t(update_delay(int64_t(machine_.junctions.size()), int64_t(i)))]);
    if (code == 0) return;
    const Word* delta = used_deltas(i);
    Word* step = sums_[i].data();
    Word clipped = 0;
    for (size_t n = 0; n < sums_[i].size(); n++) {
      step[n] = number_.step(delta[n], code);
      biases_[i][n] = number_.add(biases_[i][n], step[n], clipped);
    }
    saturation_[i].parameters += clipped;
    Banks<Word>& left = activations_[i];
    kernels_.update(tables(i), number_, step, left.at(update_bank(cycle_, left.banks)),
                    weights_[i].data(), saturation_[i]);
  }

  Word* used_deltas(size_t i) { return deltas_[i].at(1 - delta_write_bank(cycle_)); }

  int64_t finish_outputs(const Record* record, int64_t row) {
    const int64_t label = labels_[machine_.junctions.size()];
    Word* delta = deltas_.back().at(delta_write_bank(cycle_));
    const Word one = Word(1) << number_.fraction;
    for (size_t n = 0; n < outputs_.size(); n++) {
      delta[n] = number_.clip(outputs_[n] - (int64_t(n) == label ? one : 0));
    }
    if (record) {
      std::copy_n(delta, outputs_.size(), record->output_delta + row * int64_t(outputs_.size()));
    }
    return winner();
  }

  // The later clock wins ties, within a clock the first neuron.
  int64_t winner() const {
    const std::vector<Step>& steps = issues_.back().steps;
    const size_t scanned = steps.size() - (machine_.winner_skips_last_clock ? 1 : 0);
    int64_t best = 0;
    Word value = -1;
    for (size_t n = 0; n < scanned; n++) {
      const auto first = outputs_.begin() + steps[n].finishes;
      const auto found = std::max_element(first, first + steps[n].finish_count);
      if (steps[n].finish_count && *found >= value) {
        value = *found;
        best = found - outputs_.begin();
      }
    }
    return best;
  }

  void copy_used(size_t i, const Record& record, int64_t row) {
    const int64_t n_out = machine_.junctions[i].n_out;
    std::copy_n(used_deltas(i), n_out, record.deltas[i] + row * n_out);
  }

  void copy_written(const Record& record, int64_t row) {
    const size_t last = machine_.junctions.size() - 1;
    for (size_t i = 0; i < last; i++) {
      Banks<Word>& right = activations_[i + 1];
      const int64_t bank = write_bank(cycle_, right.banks), at = row * right.neurons;
      std::copy_n(right.at(bank), right.neurons, record.activations[i] + at);
      std::copy_n(slopes_[i + 1].at(bank), right.neurons, record.slopes[i] + at);
    }
    const int64_t at = row * int64_t(outputs_.size());
    std::copy(outputs_.begin(), outputs_.end(), record.activations[last] + at);
  }

  const Kernels<Word>& kernels_;
  Arithmetic<Word> number_;
  int64_t cycle_ = 0;
  std::vector<std::vector<Word>> weights_, biases_, buffers_, sums_;
  std::vector<std::vector<int32_t>> begins_, chains_;
  // of junctions that lose some
  std::vector<std::vector<PartialSum>> partials_;
  std::vector<Word> partial_;
  // of layer i, to the left of junction i (from 0); deltas of the layer to its right
  std::vector<Banks<Word>> activations_, slopes_, deltas_;
  // the slopes of the outputs are never read
  std::vector<Word> outputs_, output_slopes_;
  // newest first
  std::vector<int64_t> labels_, codes_;
};

}  // namespace

Engine::Engine(const Machine& machine) : machine_(machine), saturation_(machine.junctions.size()) {
  for (size_t i = 0; i < machine.junctions.size(); i++) {
    issues_.push_back(
        make_issue(machine.junctions[i], machine.pipeline, i > 0, machine.policy == Policy::stall));
  }
}

int64_t Engine::cycle_clocks() const {
  int64_t longest = 0;
  for (const Issue& issue : issues_) longest = std::max(longest, issue.clocks());
  return longest + kFlushClocks + machine_.pipeline;
}

std::unique_ptr<Engine> make_engine(const Machine& machine,
                                    const std::vector<std::vector<int64_t>>& weights,
                                    const std::vector<std::vector<int64_t>>& biases, int isa) {
  constexpr int kNarrowBits = 16;
  constexpr int64_t kNarrowFanIn = int64_t(1) << 15;
  bool narrow = 1 + machine.integer_bits + machine.fraction_bits <= kNarrowBits;
  // sums of more products of 16 bits would leave 32 bits
  for (const Junction& junction : machine.junctions) narrow &= junction.n_in < kNarrowFanIn;
  const InstructionSet& set = kInstructionSets[isa];
  if (narrow) {
    return std::make_unique<TypedEngine<int32_t>>(machine, weights, biases, *set.narrow);
  }
  return std::make_unique<TypedEngine<int64_t>>(machine, weights, biases, *set.wide);
}

}  // namespace dnc::hw
