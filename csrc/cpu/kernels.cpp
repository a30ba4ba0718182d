// Compiled once per instruction set; see CMakeLists.txt for the flags.
#include "grad_weight.hpp"
#include "multiply.hpp"
#include "spread.hpp"
#include "sum_samples.hpp"
#if DNC_VECTOR_BYTES >= 32
#include "few.hpp"
#endif

namespace dnc::DNC_ISA {

namespace {

// call(a value of the storage type)
template <class Call>
auto with_storage(DType dtype, Call call) {
  switch (dtype) {
    case DType::float32:
      return call(float{});
    case DType::float64:
      return call(double{});
    case DType::bfloat16:
      return call(BFloat16{});
  }
  __builtin_unreachable();
}

void multiply_any(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
                  const Finish& finish, const Matrix& y, int64_t batch, int64_t shape,
                  int threads) {
  with_storage(dtype, [&](auto storage) {
    multiply<decltype(storage)>(direction, x, weight, finish, y, batch, shape, threads);
  });
}

#if DNC_VECTOR_BYTES >= 32

int64_t few_samples_any(const Direction& direction, DType dtype) {
  return with_storage(dtype,
                      [&](auto storage) { return few_samples<decltype(storage)>(direction); });
}

void few_any(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
             const Finish& finish, const Matrix& y, int64_t batch, int threads) {
  with_storage(dtype, [&](auto storage) {
    few<decltype(storage)>(direction, x, weight, finish, y, batch, threads);
  });
}

#else

// where numbers are looked up one by one, packed tiles are as fast
int64_t few_samples_any(const Direction&, DType) { return 0; }
constexpr decltype(Kernels::few) few_any = nullptr;

#endif

int64_t spread_samples_any(const Direction& direction, DType dtype) {
  return with_storage(dtype,
                      [&](auto storage) { return spread_samples<decltype(storage)>(direction); });
}

void spread_any(const Direction& direction, DType dtype, const Matrix& grad_y, const void* weight,
                const Matrix& grad_x, int64_t batch, int threads) {
  with_storage(dtype, [&](auto storage) {
    spread<decltype(storage)>(direction, grad_y, weight, grad_x, batch, threads);
  });
}

void grad_weight_any(const Direction& direction, DType dtype, const Matrix& grad_y, const Matrix& x,
                     void* grad, int64_t batch, int64_t shape, int threads) {
  with_storage(dtype, [&](auto storage) {
    grad_weight<decltype(storage)>(direction, grad_y, x, grad, batch, shape, threads);
  });
}

void sum_samples_any(DType dtype, const Matrix& grad_y, void* grad_bias, int64_t outputs,
                     int64_t batch, int threads) {
  with_storage(dtype, [&](auto storage) {
    sum_samples<decltype(storage)>(grad_y, grad_bias, outputs, batch, threads);
  });
}

void widen_all(const void* weight, float* result, int64_t count, int threads) {
  const BFloat16* source = static_cast<const BFloat16*>(weight);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t i = 0; i < count; i++) result[i] = widen(source[i]);
}

#ifdef DNC_BFLOAT16_DOT
constexpr bool kBFloat16Products = true;
#else
constexpr bool kBFloat16Products = false;
#endif

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {DNC_ISA_NAME,    kBFloat16Products,  multiply_any, few_samples_any,
                         few_any,         spread_samples_any, spread_any,   grad_weight_any,
                         sum_samples_any, widen_all};

}  // namespace dnc::DNC_ISA
