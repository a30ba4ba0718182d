// Products of 16 x 16 tiles by the warps of any GPU since sm_80. The emulator of the tests has its
// own version.
//
// LeftTile [rows, k] and RightTile [k, columns] are read from rows of `stride` numbers that run
// along k, or, transposed, along the other dimension. Addresses are multiples of 32 bytes and
// strides of 16.
#pragma once

#include <type_traits>

#include "storage.cuh"

#ifdef DNC_EMULATED
#include "emulated_warp_tiles.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

namespace dnc::cuda {

template <class T>
using Native = std::conditional_t<std::is_same_v<T, BFloat16>, __nv_bfloat16, __half>;

template <class T, bool kTransposed>
using LeftTile = nvcuda::wmma::fragment<
    nvcuda::wmma::matrix_a, 16, 16, 16, Native<T>,
    std::conditional_t<kTransposed, nvcuda::wmma::col_major, nvcuda::wmma::row_major> >;
template <class T, bool kTransposed>
using RightTile = nvcuda::wmma::fragment<
    nvcuda::wmma::matrix_b, 16, 16, 16, Native<T>,
    std::conditional_t<kTransposed, nvcuda::wmma::row_major, nvcuda::wmma::col_major> >;
using SumTile = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

DNC_DEVICE void clear_tile(SumTile& sum) { nvcuda::wmma::fill_fragment(sum, 0.0f); }

template <class Tile, class T>
DNC_DEVICE void load_tile(Tile& tile, const T* from, int stride) {
  nvcuda::wmma::load_matrix_sync(tile, reinterpret_cast<const Native<T>*>(from), unsigned(stride));
}

template <class Left, class Right>
DNC_DEVICE void add_product(SumTile& sum, const Left& left, const Right& right) {
  nvcuda::wmma::mma_sync(sum, left, right, sum);
}

// Rows of `stride` floats.
DNC_DEVICE void store_tile(float* to, const SumTile& sum, int stride) {
  nvcuda::wmma::store_matrix_sync(to, sum, unsigned(stride), nvcuda::wmma::mem_row_major);
}

}  // namespace dnc::cuda
#endif
