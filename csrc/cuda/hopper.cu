#include <cstdint>
#include "hopper_multiply.cuh"
namespace dnc::hopper {
template __global__ void multiply_kernel<128, Half::bfloat16, false, false>(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const Multiply);
template __global__ void multiply_kernel<128, Half::bfloat16, true, false>(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const Multiply);
template __global__ void multiply_kernel<64, Half::float16, false, true>(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const Multiply);
}
