// grad_x = grad_y W for a few samples and 1x1 edges, along the rows of the forward direction: each
// edge adds its product to its column's sums. So few samples do not repay transposing the weights.
//
// | samples | a column's sums  | held in                             |
// |---------|------------------|-------------------------------------|
// | one     | a number         | L1, up to some thousand columns     |
// | more    | a vector of them | L2                                  |
#pragma once

#include "pack.hpp"
#include "samples.hpp"

namespace dnc::DNC_ISA {

// Samples up to which this beats transposing the weights: those of three passes, at most 16.
template <class S>
int64_t spread_samples(const Direction& d) {
  if (d.row_block * d.column_block > 1) return 0;
  return smaller(16, 3 * lanes<typename Accumulator<S>::type>);
}

// Call copy(neuron, sample) for all of them, in blocks of neurons whose rows share cache lines.
template <class Copy>
DNC_INLINE void for_each_sample(int64_t neurons, int64_t samples, Copy copy) {
  constexpr int64_t block = 16;
  for (int64_t first = 0; first < neurons; first += block) {
    for (int64_t b = 0; b < samples; b++) {
      for (int64_t i = first; i < smaller(first + block, neurons); i++) copy(i, b);
    }
  }
}

// Base tiles [base, end), all in one segment. V holds a neuron's samples.
template <class S, class V>
void spread_columns(const Direction& d, const V* grad_y, const S* weight, int64_t base, int64_t end,
                    V* grad_x) {
  V* sums = grad_x + base * d.base / d.segment * d.segment;
  for (int64_t row = 0; row < d.rows; row++) {
    const uint16_t* offset = d.offset + row * d.slots;
    const S* weights = weight + row * d.weight_slots;
    const V grad = grad_y[row];
    const int64_t last = slot_at(d, end, row);
    _Pragma("GCC unroll 4") for (int64_t slot = slot_at(d, base, row); slot < last; slot++) {
      sums[offset[slot]] += (widen(weights[slot]) - V{}) * grad;
    }
  }
}

template <class S, class V>
void spread_together(const Direction& d, const Matrix& grad_y, const S* weight,
                     const Matrix& grad_x, int64_t samples, int threads) {
  using T = typename Accumulator<S>::type;
  static thread_local Scratch scratch;
  const auto lane = [](V* neuron, int64_t sample) -> T& {
    return reinterpret_cast<T*>(neuron)[sample];
  };
  V* in = static_cast<V*>(scratch.reserve((d.rows + d.columns) * int64_t(sizeof(V))));
  V* out = in + d.rows;
  for (int64_t row = 0; row < d.rows; row++) in[row] = V{};
  for_each_sample(d.rows, samples, [&](int64_t row, int64_t b) {
    lane(in + row, b) = widen(*element<S>(grad_y, b, row));
  });
  const int64_t bases = divide_up(d.columns, d.base), width = divide_up(bases, threads);
  const int64_t segment = d.segment / d.base;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t first = 0; first < bases; first += width) {
    const int64_t last = smaller(first + width, bases);
    const int64_t column = first * d.base, columns = smaller(last * d.base, d.columns) - column;
    for (int64_t c = 0; c < columns; c++) out[column + c] = V{};
    for (int64_t base = first; base < last; base = (base / segment + 1) * segment) {
      const int64_t end = smaller((base / segment + 1) * segment, last);
      spread_columns<S, V>(d, in, weight, base, end, out);
    }
    for_each_sample(columns, samples, [&](int64_t c, int64_t b) {
      narrow(lane(out + column + c, b), element<S>(grad_x, b, column + c));
    });
  }
}

template <class S>
void spread(const Direction& d, const Matrix& grad_y, const void* weight, const Matrix& grad_x,
            int64_t batch, int threads) {
  using T = typename Accumulator<S>::type;
  constexpr int n = lanes<T>, half = n > 1 ? n / 2 : 1;
  for (int64_t first = 0; first < batch; first += n) {
    const int64_t samples = smaller(n, batch - first);
    const auto pass = [&](auto neuron) {
      spread_together<S, decltype(neuron)>(d, from_sample<S>(grad_y, first),
                                           static_cast<const S*>(weight),
                                           from_sample<S>(grad_x, first), samples, threads);
    };
    if (samples == 1) {
      pass(T{});
    } else if (samples <= half) {
      pass(typename VectorOf<T, half>::type{});
    } else {
      pass(Vec<T>{});
    }
  }
}

}  // namespace dnc::DNC_ISA
