// The loops over edges, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"
#include "saturation.h"

namespace dnc::hw {

// The tables of a junction: n_in left, n_out right neurons, edges in processing order.
//
// | name   | meaning                                                         | shape             |
// |--------|-----------------------------------------------------------------|-------------------|
// | left   | left neuron of each edge                                        | [edges]           |
// | begin  | first edge of each right neuron, and the end                    | [n_out + 1]       |
// | chain  | q-th edge whose delta reaches a left neuron; `edges` where none | [length, n_in]    |
struct Tables {
  int64_t n_in, n_out, edges, chain_length;
  const int32_t* left;
  const int32_t* begin;
  const int32_t* chain;
};

template <class Word>
struct Kernels {
  // sums[right] = products of weights and activations, exact; buffer: [edges]
  void (*feed_forward)(const Tables& tables, const Arithmetic<Word>& number, const Word* weight,
                       const Word* activation, Word* buffer, Word* sums);
  // left_delta[left] = sum of weight * (slope * delta); buffer: [edges + 1]
  void (*back_propagate)(const Tables& tables, const Arithmetic<Word>& number, const Word* weight,
                         const Word* slope, const Word* delta, Word* buffer, Word* left_delta,
                         Saturation& saturation);
  // weight += step * activation, where step is -eta * delta of each right neuron
  void (*update)(const Tables& tables, const Arithmetic<Word>& number, const Word* step,
                 const Word* activation, Word* weight, Saturation& saturation);
};

struct InstructionSet {
  const char* name;
  const Kernels<int32_t>* narrow;
  const Kernels<int64_t>* wide;
  bool (*available)();
};

// Best first; the last one runs everywhere.
extern const InstructionSet kInstructionSets[];
extern const int kInstructionSetCount;

}  // namespace dnc::hw
