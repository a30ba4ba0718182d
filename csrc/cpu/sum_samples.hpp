// grad_bias[output] = sum over the batch of grad_y, in an order that does not depend on threads:
// eight samples, panels of them, the batch.
#pragma once

#include "pack.hpp"
#include "samples.hpp"

namespace dnc::DNC_ISA {

// Outputs of one thread: long runs of memory, and their sums stay in L1.
constexpr int64_t kSummedOutputs = 256;

// Add `together` samples to the sums of `count` outputs from `first` on.
template <class S, int together>
DNC_INLINE void add_samples(const Matrix& grad_y, int64_t sample, int64_t first, int64_t count,
                            typename Accumulator<S>::type* sums) {
  using T = typename Accumulator<S>::type;
  constexpr int64_t n = lanes<T>;
  const auto at = [&](int64_t b, int64_t i) { return element<S>(grad_y, sample + b, first + i); };
  const int64_t whole = grad_y.feature_stride == 1 ? count / n * n : 0;
  for (int64_t i = 0; i < whole; i += n) {
    Vec<T> sum = load_wide(at(0, i));
    DNC_UNROLL for (int b = 1; b < together; b++) sum += load_wide(at(b, i));
    store(sums + i, load(sums + i) + sum);
  }
  for (int64_t i = whole; i < count; i++) {
    T sum = widen(*at(0, i));
    for (int b = 1; b < together; b++) sum += widen(*at(b, i));
    sums[i] += sum;
  }
}

template <class S>
void sum_samples(const Matrix& grad_y, void* grad_bias, int64_t outputs, int64_t batch,
                 int threads) {
  using T = typename Accumulator<S>::type;
  constexpr int64_t together = 8;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t first = 0; first < outputs; first += kSummedOutputs) {
    const int64_t count = smaller(kSummedOutputs, outputs - first);
    T total[kSummedOutputs] = {};
    for (int64_t start = 0; start < batch; start += kGradPanel) {
      const int64_t end = smaller(start + kGradPanel, batch);
      T sums[kSummedOutputs] = {};
      int64_t sample = start;
      for (; sample + together <= end; sample += together) {
        add_samples<S, together>(grad_y, sample, first, count, sums);
      }
      for (; sample < end; sample++) add_samples<S, 1>(grad_y, sample, first, count, sums);
      for (int64_t i = 0; i < count; i++) total[i] += sums[i];
    }
    for (int64_t i = 0; i < count; i++) narrow(total[i], static_cast<S*>(grad_bias) + first + i);
  }
}

}  // namespace dnc::DNC_ISA
