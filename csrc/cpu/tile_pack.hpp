// From the caller's activations to panels of tiles. Samples and features past the last are zero.
#pragma once

#include "tiles.hpp"

namespace dnc::DNC_ISA {

// A matrix of samples x features that is being packed.
struct Source {
  const BFloat16* data;
  int64_t batch_stride, feature_stride, samples, features;

  Source(const Matrix& matrix, int64_t samples, int64_t features)
      : data(static_cast<const BFloat16*>(matrix.data)),
        batch_stride(matrix.batch_stride),
        feature_stride(matrix.feature_stride),
        samples(samples),
        features(features) {}

  // 32 features of each of 16 samples
  DNC_INLINE void rows(int64_t sample, int64_t feature, __m512i* result) const {
    const int64_t count = smaller(kTileRows, samples - sample);
    const int64_t width = smaller(kStep, features - feature);
    const BFloat16* from = data + feature * feature_stride;
    if (count > 0) from += sample * batch_stride;
    if (feature_stride == 1) {
      const __mmask32 lanes = first_lanes(width);
      DNC_UNROLL for (int64_t i = 0; i < kTileRows; i++) {
        const __mmask32 own = i < count ? lanes : 0;
        result[i] = _mm512_maskz_loadu_epi16(own, from + (i < count ? i : 0) * batch_stride);
      }
      return;
    }
    BFloat16 block[kTileRows][kStep] = {};
    for (int64_t f = 0; f < width; f++) {
      for (int64_t i = 0; i < count; i++) {
        block[i][f] = from[i * batch_stride + f * feature_stride];
      }
    }
    for (int64_t i = 0; i < kTileRows; i++) result[i] = _mm512_loadu_si512(block[i]);
  }
};

DNC_INLINE void store_tile(const __m512i* rows, BFloat16* tile) {
  DNC_UNROLL for (int i = 0; i < kTileRows; i++) _mm512_storeu_si512(tile + i * kStep, rows[i]);
}

// A tile: rows are samples.
DNC_INLINE void pack_rows(const Source& x, int64_t sample, int64_t feature, BFloat16* tile) {
  __m512i rows[kTileRows];
  x.rows(sample, feature, rows);
  store_tile(rows, tile);
}

// B tile: columns are samples, pairs are of features.
DNC_INLINE void pack_columns(const Source& x, int64_t sample, int64_t feature, BFloat16* tile) {
  __m512i rows[kTileRows];
  x.rows(sample, feature, rows);
  turn(rows);
  store_tile(rows, tile);
}

// Pairs of samples, of 32 features and 32 samples: cell f of row i of tile t is of feature 16 t + f
// and samples 2 i, 2 i + 1.
DNC_INLINE void pair_samples(const Source& x, int64_t sample, int64_t feature,
                             __m512i (*tiles)[kTileRows]) {
  const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  DNC_UNROLL for (int half = 0; half < 2; half++) {
    __m512i rows[kTileRows];
    x.rows(sample + half * kTileRows, feature, rows);
    DNC_UNROLL for (int i = 0; i < kTileRows / 2; i++) {
      // of every eight features, the first four and the others
      const __m512i low = _mm512_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
      const __m512i high = _mm512_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
      tiles[0][half * 8 + i] = _mm512_permutex2var_epi64(low, first, high);
      tiles[1][half * 8 + i] = _mm512_permutex2var_epi64(low, second, high);
    }
  }
}

// Two B tiles: columns are features, pairs are of samples.
inline void pack_pairs(const Source& x, int64_t sample, int64_t feature, BFloat16* tiles) {
  __m512i pairs[2][kTileRows];
  pair_samples(x, sample, feature, pairs);
  store_tile(pairs[0], tiles);
  store_tile(pairs[1], tiles + kTile);
}

// Two A tiles: rows are features.
inline void pack_turned(const Source& x, int64_t sample, int64_t feature, BFloat16* tiles) {
  __m512i pairs[2][kTileRows];
  pair_samples(x, sample, feature, pairs);
  for (int t = 0; t < 2; t++) {
    turn(pairs[t]);
    store_tile(pairs[t], tiles + t * kTile);
  }
}

}  // namespace dnc::DNC_ISA
