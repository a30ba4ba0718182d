// Compiled once per instruction set; see CMakeLists.txt for the flags.
#include "grad_weight.hpp"
#include "multiply.hpp"

namespace dnc::DNC_ISA {

namespace {

void multiply_any(const Direction& direction, DType dtype, const Matrix& x, const void* weight,
                  const Finish& finish, const Matrix& y, int64_t batch, int64_t shape,
                  int threads) {
  switch (dtype) {
    case DType::float32:
      return multiply<float>(direction, x, weight, finish, y, batch, shape, threads);
    case DType::float64:
      return multiply<double>(direction, x, weight, finish, y, batch, shape, threads);
    case DType::bfloat16:
      return multiply<BFloat16>(direction, x, weight, finish, y, batch, shape, threads);
  }
}

void grad_weight_any(const Direction& direction, DType dtype, const Matrix& grad_y, const Matrix& x,
                     void* grad, int64_t batch, int64_t shape, int threads) {
  switch (dtype) {
    case DType::float32:
      return grad_weight<float>(direction, grad_y, x, grad, batch, shape, threads);
    case DType::float64:
      return grad_weight<double>(direction, grad_y, x, grad, batch, shape, threads);
    case DType::bfloat16:
      return grad_weight<BFloat16>(direction, grad_y, x, grad, batch, shape, threads);
  }
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
const Kernels kernels = {DNC_ISA_NAME, kBFloat16Products, multiply_any, grad_weight_any, widen_all};

}  // namespace dnc::DNC_ISA
