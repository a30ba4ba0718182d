// Compiled once per instruction set; see CMakeLists.txt for the flags. The compiler vectorises.
#include "kernels.h"

namespace dnc::hw::DNC_ISA {

namespace {

template <class Word>
void feed_forward(const Tables& tables, const Arithmetic<Word>& arithmetic,
                  const Word* __restrict weight, const Word* __restrict activation,
                  Word* __restrict buffer, Word* __restrict sums) {
  // a copy, which no store can change
  const Arithmetic<Word> number = arithmetic;
  const int32_t* __restrict left = tables.left;
  for (int64_t e = 0; e < tables.edges; e++) {
    buffer[e] = number.multiply(weight[e], activation[left[e]]);
  }
  for (int64_t right = 0; right < tables.n_out; right++) {
    Word sum = 0;
    for (int32_t e = tables.begin[right]; e < tables.begin[right + 1]; e++) sum += buffer[e];
    sums[right] = sum;
  }
}

template <class Word>
void back_propagate(const Tables& tables, const Arithmetic<Word>& arithmetic,
                    const Word* __restrict weight, const Word* __restrict slope,
                    const Word* __restrict delta, Word* __restrict buffer,
                    Word* __restrict left_delta, Saturation& saturation) {
  // a copy, which no store can change
  const Arithmetic<Word> number = arithmetic;
  const int32_t* __restrict left = tables.left;
  Word clipped_products = 0, clipped_sums = 0;
  for (int64_t right = 0; right < tables.n_out; right++) {
    const Word its_delta = delta[right];
    const int32_t end = tables.begin[right + 1];
    for (int32_t e = tables.begin[right]; e < end; e++) {
      const Word error = number.multiply(slope[left[e]], its_delta, clipped_products);
      buffer[e] = number.multiply(weight[e], error, clipped_products);
    }
  }
  buffer[tables.edges] = 0;
  for (int64_t n = 0; n < tables.n_in; n++) left_delta[n] = 0;
  for (int64_t q = 0; q < tables.chain_length; q++) {
    const int32_t* __restrict edge = tables.chain + q * tables.n_in;
    for (int64_t n = 0; n < tables.n_in; n++) {
      left_delta[n] = number.add(left_delta[n], buffer[edge[n]], clipped_sums);
    }
  }
  saturation.products += clipped_products;
  saturation.partial_deltas += clipped_sums;
}

template <class Word>
void update(const Tables& tables, const Arithmetic<Word>& arithmetic, const Word* __restrict step,
            const Word* __restrict activation, Word* __restrict weight, Saturation& saturation) {
  // a copy, which no store can change
  const Arithmetic<Word> number = arithmetic;
  const int32_t* __restrict left = tables.left;
  Word clipped = 0;
  for (int64_t right = 0; right < tables.n_out; right++) {
    const Word its_step = step[right];
    // adding products with 0 changes nothing, and most steps round to 0 once trained
    if (its_step == 0) continue;
    const int32_t end = tables.begin[right + 1];
    for (int32_t e = tables.begin[right]; e < end; e++) {
      const Word change = number.multiply(its_step, activation[left[e]]);
      weight[e] = number.add(weight[e], change, clipped);
    }
  }
  saturation.parameters += clipped;
}

template <class Word>
constexpr Kernels<Word> kKernels = {&feed_forward<Word>, &back_propagate<Word>, &update<Word>};

}  // namespace

extern const Kernels<int32_t> narrow;
extern const Kernels<int64_t> wide;
const Kernels<int32_t> narrow = kKernels<int32_t>;
const Kernels<int64_t> wide = kKernels<int64_t>;

}  // namespace dnc::hw::DNC_ISA
