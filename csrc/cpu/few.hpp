// y = finish(x W^T) for a few samples and 1x1 edges. Lanes run along the edges of a row, since so
// few samples would leave most lanes of a packed tile empty.
//
// for each group of rows, as many as a vector has lanes, on one thread:
//   for each sample:                                  the weights of the group stay in cache
//     one vector of sums per row: weights times inputs, looked up in memory or in registers
//     add up the lanes of all the rows at once
#pragma once

#include "lookup.hpp"
#include "pack.hpp"
#include "samples.hpp"

namespace dnc::DNC_ISA {

// Inputs are padded with zeros to whole multiples of this many.
constexpr int64_t kFewInputs = 128;

// Edges [slot, last) of a row: whole vectors go to `sum`, the rest to `rest`.
template <class S, class T>
DNC_INLINE void add_edges(const T* x, const S* weight, const uint16_t* offset, int64_t slot,
                          int64_t last, Vec<T>* sum, T* rest) {
  constexpr int n = lanes<T>, apart = 4;
  Vec<T> sums[apart] = {};
  for (; slot + apart * n <= last; slot += apart * n) {
    DNC_UNROLL for (int i = 0; i < apart; i++) {
      const int64_t at = slot + i * n;
      sums[i] += load_wide(weight + at) * lookup(x, offset + at);
    }
  }
  for (; slot + n <= last; slot += n)
    sums[0] += load_wide(weight + slot) * lookup(x, offset + slot);
  for (; slot < last; slot++) *rest += widen(weight[slot]) * x[offset[slot]];
  *sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// A row with its edges anywhere. `segment_bases` are the base tiles of a segment, of `bases` in
// all.
template <class S, class T>
DNC_INLINE void add_row(const Direction& d, const T* x, const S* weight, int64_t row, int64_t bases,
                        int64_t segment_bases, Vec<T>* sum, T* rest) {
  const uint16_t* offset = d.offset + row * d.slots;
  *sum = Vec<T>{};
  for (int64_t base = 0; base < bases; base += segment_bases, x += d.segment) {
    Vec<T> part;
    add_edges(x, weight + row * d.weight_slots, offset, slot_at(d, base, row),
              slot_at(d, smaller(base + segment_bases, bases), row), &part, rest);
    *sum += part;
  }
}

#if DNC_VECTOR_BYTES == 64

// Base tiles that a vector of a row's edges spans, if their inputs are best looked up in registers,
// else 0: it takes one lookup per base tile where a gather costs as much as eight or more.
template <class S>
int64_t bases_in_registers(const Direction& d) {
  const bool balanced = d.base == 32 && d.per_base >= 3 && d.per_base <= 16;
  if (std::is_same_v<S, double> || !balanced) return 0;
  return d.per_base > 8 ? 1 : d.per_base > 4 ? 2 : 4;
}

// R rows with equally many edges in each base tile of 32 columns, L base tiles at a time. The rows
// past `last` are the one before it again.
template <class S, int L, int R>
DNC_INLINE void add_balanced_rows(const Direction& d, const float* x, const S* weight, int64_t row,
                                  int64_t last, Vec<float>* sums) {
  const auto lanes_of = [&](int64_t bases) { return __mmask16((1u << bases * d.per_base) - 1); };
  __mmask16 own[L];
  DNC_UNROLL for (int l = 0; l < L; l++) own[l] = lanes_of(l + 1) & ~lanes_of(l);
  const uint16_t* offset[R];
  const S* weights[R];
  Vec<float> sum[R];
  DNC_UNROLL for (int r = 0; r < R; r++) {
    offset[r] = d.offset + smaller(row + r, last - 1) * d.slots;
    weights[r] = weight + smaller(row + r, last - 1) * d.weight_slots;
    sum[r] = Vec<float>{};
  }
  const int64_t bases = d.columns / 32;
  for (int64_t base = 0; base < bases; base += L) {
    const __mmask16 edges = lanes_of(smaller(L, bases - base));
    const int64_t slot = base * d.per_base;
    __m512 table[2 * L];
    DNC_UNROLL for (int i = 0; i < 2 * L; i++) table[i] = _mm512_loadu_ps(x + base * 32 + i * 16);
    DNC_UNROLL for (int r = 0; r < R; r++) {
      __m512i value = load_lanes(offset[r] + slot, edges);
      DNC_UNROLL for (int l = 0; l < L; l++) {
        value = replace_by_lookup(value, own[l], table[2 * l], table[2 * l + 1]);
      }
      sum[r] += (Vec<float>)value * (Vec<float>)load_lanes(weights[r] + slot, edges);
    }
  }
  DNC_UNROLL for (int r = 0; r < R; r++) sums[r] = sum[r];
}

template <class S, int L>
void add_balanced_group(const Direction& d, const float* x, const S* weight, int64_t row,
                        int64_t last, Vec<float>* sums) {
  constexpr int R = 4;
  for (int i = 0; i < lanes<float>; i += R) {
    add_balanced_rows<S, L, R>(d, x, weight, smaller(row + i, last - 1), last, sums + i);
  }
}

#endif

// Samples up to which this beats packed tiles, as measured with 1024 and 4096 inputs.
template <class S>
int64_t few_samples(const Direction& d) {
  if (d.row_block * d.column_block > 1) return 0;
#if DNC_VECTOR_BYTES == 64
  return bases_in_registers<S>(d) ? 4 : 2;
#else
  return 1;
#endif
}

// Sums of a vector of rows before their lanes are added, and what is added to those.
template <class S, class T>
void add_group(const Direction& d, const T* x, const S* weight, int64_t row, int64_t last,
               Vec<T>* sums, T* rest) {
#if DNC_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    switch (bases_in_registers<S>(d)) {
      case 1:
        return add_balanced_group<S, 1>(d, x, weight, row, last, sums);
      case 2:
        return add_balanced_group<S, 2>(d, x, weight, row, last, sums);
      case 4:
        return add_balanced_group<S, 4>(d, x, weight, row, last, sums);
    }
  }
#endif
  const int64_t bases = divide_up(d.columns, d.base), segment_bases = d.segment / d.base;
  for (int i = 0; i < lanes<T>; i++) {
    add_row(d, x, weight, smaller(row + i, last - 1), bases, segment_bases, sums + i, rest + i);
  }
}

template <class S>
void few(const Direction& d, const Matrix& x, const void* weight, const Finish& finish,
         const Matrix& y, int64_t batch, int threads) {
  using T = typename Accumulator<S>::type;
  constexpr int64_t n = lanes<T>;
  static thread_local Scratch scratch;
  const int64_t stride = round_up(d.columns, kFewInputs);
  T* inputs = static_cast<T*>(scratch.reserve(batch * stride * int64_t(sizeof(T))));
  for (int64_t b = 0; b < batch; b++) {
    T* own = inputs + b * stride;
    for (int64_t c = 0; c < d.columns; c++) own[c] = widen(*element<S>(x, b, c));
    for (int64_t c = d.columns; c < stride; c++) own[c] = 0;
  }
  const S* bias = static_cast<const S*>(finish.bias);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t row = 0; row < d.rows; row += n) {
    const int64_t last = smaller(row + n, d.rows);
    for (int64_t b = 0; b < batch; b++) {
      Vec<T> sums[n];
      T rest[n] = {};
      for (int64_t r = row; r < last && bias; r++) rest[r - row] = widen(bias[r]);
      add_group(d, inputs + b * stride, static_cast<const S*>(weight), row, last, sums, rest);
      Vec<T> result = load(rest) + sum_each<T>(sums);
      store(rest, finish.relu ? positive(result) : result);
      for (int64_t r = row; r < last; r++) narrow(rest[r - row], element<S>(y, b, r));
    }
  }
}

}  // namespace dnc::DNC_ISA
