// Vectors of one instruction set, written once with the compiler's vector extension.
//
// Included only by kernels.cpp, which defines DNC_ISA (a namespace, so that no two instruction
// sets share a symbol) and DNC_VECTOR_BYTES (0 for scalar code).
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define DNC_UNROLL _Pragma("GCC unroll 64")
#define DNC_INLINE inline __attribute__((always_inline))

namespace dnc::DNC_ISA {

template <class T>
constexpr int lanes = DNC_VECTOR_BYTES == 0 ? 1 : DNC_VECTOR_BYTES / int(sizeof(T));

// Vectors of sums that the registers hold beside operands, in all and of one row.
constexpr int kSums = DNC_VECTOR_BYTES == 32 ? 8 : 16;
constexpr int kRowSums = DNC_VECTOR_BYTES == 32 ? 4 : 8;

template <int value>
using Size = std::integral_constant<int, value>;

template <class F, int... i>
DNC_INLINE void each_of(const F& f, std::integer_sequence<int, i...>) {
  (f(Size<i>()), ...);
}

// f(0) ... f(count - 1) with constants, so that an array they index never leaves the registers: GCC
// unrolls a loop too late for that.
template <int count, class F>
DNC_INLINE void each(const F& f) {
  each_of(f, std::make_integer_sequence<int, count>());
}

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T)), may_alias));
  typedef T unaligned __attribute__((vector_size(N * sizeof(T)), may_alias, aligned(alignof(T))));
};
template <class T>
struct VectorOf<T, 1> {
  typedef T type __attribute__((may_alias));
  typedef T unaligned __attribute__((may_alias));
};

template <class T>
using Vec = typename VectorOf<T, lanes<T>>::type;

template <class T>
DNC_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T, lanes<T>>::unaligned*>(p);
}

template <class T>
DNC_INLINE void store(T* p, Vec<T> value) {
  *reinterpret_cast<typename VectorOf<T, lanes<T>>::unaligned*>(p) = value;
}

template <class T>
DNC_INLINE Vec<T> broadcast(T value) {
  // subtracting zero, unlike adding it, changes no value, so that nothing but a broadcast is left
  return value - Vec<T>{};
}

// The same pointer, behind the compiler's back: what it points to is then addressed by constant
// distances from it, where GCC would otherwise compute one address per vector.
template <class T>
DNC_INLINE T* opaque(T* p) {
  asm("" : "+r"(p));
  return p;
}

// bfloat16 is kept as its bits; it is the upper half of a float.
struct BFloat16 {
  uint16_t bits;
};

template <class S>
struct Accumulator {
  using type = S;
};
template <>
struct Accumulator<BFloat16> {
  using type = float;
};

DNC_INLINE float widen(BFloat16 value) {
  uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}
DNC_INLINE float widen(float value) { return value; }
DNC_INLINE double widen(double value) { return value; }

DNC_INLINE void narrow(float value, float* result) { *result = value; }
DNC_INLINE void narrow(double value, double* result) { *result = value; }
DNC_INLINE void narrow(float value, BFloat16* result) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  // round to nearest, ties to even; a NaN stays one
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  result->bits = uint16_t(value != value ? (bits >> 16) | 0x40u : rounded);
}

// A number of one storage type in a cell of a tile.
template <class S, class C>
DNC_INLINE void convert(S value, C* cell) {
  *cell = widen(value);
}
DNC_INLINE void convert(BFloat16 value, BFloat16* cell) { *cell = value; }

// Negative numbers become zero; a NaN stays one.
template <class V>
DNC_INLINE V positive(V value) {
  return value < V{} ? V{} : value;
}

DNC_INLINE Vec<float> load_wide(const float* p) { return load(p); }
DNC_INLINE Vec<double> load_wide(const double* p) { return load(p); }
DNC_INLINE void store_narrow(float* p, Vec<float> value) { store(p, value); }
DNC_INLINE void store_narrow(double* p, Vec<double> value) { store(p, value); }

#if DNC_VECTOR_BYTES == 0

DNC_INLINE float load_wide(const BFloat16* p) { return widen(*p); }
DNC_INLINE void store_narrow(BFloat16* p, float value) { narrow(value, p); }
template <class T>
DNC_INLINE void transpose(Vec<T>*) {}
template <class T>
DNC_INLINE Vec<T> sum_each(const Vec<T>* rows) {
  return rows[0];
}

#else

using Half = VectorOf<uint16_t, lanes<float>>;
using Word = VectorOf<uint32_t, lanes<float>>;

DNC_INLINE Word::type load_words(const BFloat16* p) {
  return *reinterpret_cast<const Word::unaligned*>(p);
}

// Two vectors of 16-bit cells in one: a in the even cells, b in the odd ones.
DNC_INLINE Vec<float> pair_cells(const BFloat16* a, const BFloat16* b) {
  auto low = __builtin_convertvector(*reinterpret_cast<const Half::unaligned*>(a), Word::type);
  auto high = __builtin_convertvector(*reinterpret_cast<const Half::unaligned*>(b), Word::type);
  return (Vec<float>)(low | (high << 16));
}

DNC_INLINE Vec<float> load_wide(const BFloat16* p) {
  auto half = *reinterpret_cast<const Half::unaligned*>(p);
  return (Vec<float>)(__builtin_convertvector(half, Word::type) << 16);
}

DNC_INLINE void store_narrow(BFloat16* p, Vec<float> value) {
  auto bits = (Word::type)value;
  auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  auto nan = (Word::type)(value != value);
  auto kept = (nan & ((bits >> 16) | 0x40u)) | (~nan & rounded);
  *reinterpret_cast<Half::unaligned*>(p) = __builtin_convertvector(kept, Half::type);
}

template <class V, std::size_t... I>
DNC_INLINE V interleave(V a, V b, int half, std::index_sequence<I...>) {
  constexpr int n = sizeof...(I);
  return half == 0 ? __builtin_shufflevector(a, b, (int(I) / 2 + (int(I) % 2) * n)...)
                   : __builtin_shufflevector(a, b, (n / 2 + int(I) / 2 + (int(I) % 2) * n)...);
}

// Add neighbouring lanes; the sums of a fill the lower half, those of b the upper.
template <class V, std::size_t... I>
DNC_INLINE V pair_sums(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (2 * int(I))...) +
         __builtin_shufflevector(a, b, (2 * int(I) + 1)...);
}

// Transpose a square of lanes x lanes values in registers.
template <class T>
DNC_INLINE void transpose(Vec<T>* rows) {
  constexpr int n = lanes<T>;
  constexpr auto index = std::make_index_sequence<n>();
  DNC_UNROLL for (int stage = 1; stage < n; stage *= 2) {
    Vec<T> next[n];
    DNC_UNROLL for (int i = 0; i < n / 2; i++) {
      next[2 * i] = interleave(rows[i], rows[i + n / 2], 0, index);
      next[2 * i + 1] = interleave(rows[i], rows[i + n / 2], 1, index);
    }
    DNC_UNROLL for (int i = 0; i < n; i++) rows[i] = next[i];
  }
}

// Lane i of the result is the sum over the lanes of rows[i], of `count` rows; lanes repeat.
template <class T, int count = lanes<T>>
DNC_INLINE Vec<T> sum_each(const Vec<T>* rows) {
  if constexpr (count == 1) {
    return rows[0];
  } else {
    return pair_sums(sum_each<T, count / 2>(rows), sum_each<T, count / 2>(rows + count / 2),
                     std::make_index_sequence<lanes<T>>());
  }
}

#endif

}  // namespace dnc::DNC_ISA
