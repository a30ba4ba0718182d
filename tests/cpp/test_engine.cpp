// The simulator's engine without Python, for sanitizers and emulators: random machines, narrow and
// wide numbers, every instruction set; all must agree. The values themselves are held against the
// readable model by tests/hw. Arguments name instruction sets that must have run.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "hw/engine.h"
#include "hw/kernels.h"

namespace {

using dnc::hw::Engine;
using dnc::hw::Junction;
using dnc::hw::Machine;
using Vectors = std::vector<std::vector<int64_t>>;

// Everything a run leaves.
struct Result {
  std::vector<int64_t> winners;
  Vectors vectors;
};

class Test {
 public:
  explicit Test(unsigned seed) : random_(seed) {
    const int junctions = draw(1, 4);
    machine_.integer_bits = draw(1, 5);
    machine_.fraction_bits = draw(3, 20);
    machine_.rounds_after_clip = draw(0, 1);
    machine_.pipeline = draw(0, 3);
    machine_.policy = static_cast<dnc::hw::Policy>(draw(0, 2));
    machine_.winner_skips_last_clock = draw(0, 1);
    int64_t n_in = draw(1, 20);
    for (int i = 0; i < junctions; i++) {
      const int64_t n_out = draw(1, 20);
      machine_.junctions.push_back(junction(n_in, n_out));
      machine_.tables.push_back(draw(0, 1) ? table() : dnc::hw::ActivationTable{{}, {}, 0});
      weights_.push_back(words(machine_.junctions.back().edges()));
      biases_.push_back(words(n_out));
      n_in = n_out;
    }
    for (int64_t n = 0; n < kCycles * machine_.junctions.front().n_in; n++) {
      pixels_.push_back(static_cast<uint8_t>(draw(0, 255)));
    }
    for (int64_t n = 0; n < kCycles; n++) {
      labels_.push_back(draw(-1, static_cast<int>(machine_.junctions.back().n_out) - 1));
      codes_.push_back(draw(0, machine_.fraction_bits + 1));
    }
  }

  Result run(int isa) {
    const auto engine = dnc::hw::make_engine(machine_, weights_, biases_, isa);
    Result result{std::vector<int64_t>(kCycles), {}};
    dnc::hw::Record record;
    for (const Junction& junction : machine_.junctions) {
      for (int kind = 0; kind < 3; kind++) {
        result.vectors.emplace_back(static_cast<size_t>(kCycles * junction.n_out));
      }
    }
    for (size_t i = 0; i < machine_.junctions.size(); i++) {
      record.activations.push_back(result.vectors[3 * i].data());
      record.slopes.push_back(result.vectors[3 * i + 1].data());
      record.deltas.push_back(result.vectors[3 * i + 2].data());
    }
    result.vectors.emplace_back(result.vectors.back().size());
    record.output_delta = result.vectors.back().data();
    engine->run(pixels_.data(), labels_.data(), codes_.data(), kCycles, result.winners.data(),
                &record);
    for (size_t i = 0; i < machine_.junctions.size(); i++) {
      result.vectors.push_back(engine->weights(i));
      result.vectors.push_back(engine->biases(i));
    }
    for (const dnc::hw::Event& event : engine->events(kCycles)) {
      result.vectors.emplace_back(event.begin(), event.end());
    }
    return result;
  }

 private:
  static constexpr int64_t kCycles = 12;

  int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  Junction junction(int64_t n_in, int64_t n_out) {
    Junction made{n_in, n_out, 0, draw(0, 1) == 1, {}, {}};
    for (int64_t right = 0; right < n_out; right++) {
      for (int64_t left = 0; left < n_in; left++) {
        if (draw(0, 1) || left == right % n_in) {
          made.left.push_back(static_cast<int32_t>(left));
          made.right.push_back(static_cast<int32_t>(right));
        }
      }
    }
    made.lanes = draw(1, static_cast<int>(made.edges()));
    return made;
  }

  dnc::hw::ActivationTable table() {
    const int64_t one = int64_t(1) << machine_.fraction_bits;
    dnc::hw::ActivationTable made{{}, {}, one << std::min(machine_.integer_bits, 3)};
    for (int64_t entry = 0; entry < 64; entry++) {
      made.values.push_back(one * entry / 64);
      made.slopes.push_back(one / 8);
    }
    return made;
  }

  std::vector<int64_t> words(int64_t count) {
    const int64_t top = (int64_t(1) << (machine_.integer_bits + machine_.fraction_bits)) - 1;
    std::uniform_int_distribution<int64_t> word(-top - 1, top);
    std::vector<int64_t> drawn(static_cast<size_t>(count));
    for (int64_t& w : drawn) w = word(random_);
    return drawn;
  }

  std::mt19937 random_;
  Machine machine_;
  Vectors weights_, biases_;
  std::vector<uint8_t> pixels_;
  std::vector<int64_t> labels_, codes_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> missing(argv + 1, argv + argc);
  int passed = 0, failed = 0;
  const int last = dnc::hw::kInstructionSetCount - 1;
  for (int isa = 0; isa <= last; isa++) {
    const dnc::hw::InstructionSet& set = dnc::hw::kInstructionSets[isa];
    if (!set.available()) {
      std::printf("%s left out: this processor lacks it\n", set.name);
      continue;
    }
    missing.erase(std::remove(missing.begin(), missing.end(), set.name), missing.end());
    for (unsigned seed = 0; seed < 300; seed++) {
      const Result found = Test(seed).run(isa), expected = Test(seed).run(last);
      const bool good = found.winners == expected.winners && found.vectors == expected.vectors;
      good ? passed++ : failed++;
      if (!good) std::printf("FAILED on %s: machine %u\n", set.name, seed);
    }
  }
  for (const std::string& name : missing) std::printf("FAILED: %s did not run\n", name.c_str());
  std::printf("engine: %d passed, %d failed\n", passed, failed);
  return failed || !passed || !missing.empty();
}
