// A junction's functions as dense products of AMX tiles, whose weights are expanded from the edges
// on the way in, or compressed to them on the way out.
//
// | function    | A tiles (rows)          | B tiles (columns)         | kept in L2 | read again     |
// |-------------|-------------------------|---------------------------|------------|----------------|
// | forward     | weights (right neurons) | x (samples)               | weights    | packed x       |
// | grad_input  | grad_y (samples)        | weights (left neurons)    | weights    | packed grad_y  |
// | grad_weight | grad_y (right neurons)  | x (left neurons)          | grad_y     | packed x       |
//
// for each unit (a chunk of kept panels x a part of those read again), on one thread:
//   expand the weights of the kept panels, each a function's sums long
//   for each panel that is read again, for each that is kept:
//     2 x 2 tiles of sums, over all steps; they leave the registers once, for y, grad_x or grad
#include "expand.hpp"
#include "tile_pack.hpp"

namespace dnc::DNC_ISA {

namespace {

// Samples whose panels are packed at once, where weights are expanded again for the next.
constexpr int64_t kBatch = 1024;
// Panels that a unit keeps: a quarter of an L2 of 2 MiB.
constexpr int64_t kKeptBytes = 524288;

struct alignas(64) Sums {
  float tile[4][kTileRows][kTileRows];
};

// Panels of tiles one below the other; only the last may be one tile wide.
struct Panels {
  int64_t tiles, steps;
  int64_t count() const { return divide_up(tiles, 2); }
  int64_t width(int64_t panel) const { return smaller(2, tiles - 2 * panel); }
  int64_t size() const { return tiles * steps * kTile; }
  int64_t start(int64_t panel) const { return panel * 2 * steps * kTile; }
  int64_t tile(int64_t tile, int64_t step) const {
    return start(tile / 2) + (step * width(tile / 2) + tile % 2) * kTile;
  }
};

struct Range {
  int64_t first, last;
};

// work(kept panels, panels read again) by the threads of a parallel region.
template <class Work>
void for_each_unit(int64_t kept, int64_t kept_bytes, int64_t again, int threads, Work work) {
  const int64_t fitting = smaller(kKeptBytes / kept_bytes, divide_up(kept, threads));
  const int64_t chunk = fitting > 0 ? fitting : 1, chunks = divide_up(kept, chunk);
  const int64_t part = divide_up(again, smaller(again, divide_up(threads, chunks)));
  const int64_t parts = divide_up(again, part);
#pragma omp for schedule(static)
  for (int64_t unit = 0; unit < chunks * parts; unit++) {
    const int64_t first = unit / parts * chunk, start = unit % parts * part;
    work(Range{first, smaller(kept, first + chunk)}, Range{start, smaller(again, start + part)});
  }
}

BFloat16* own_scratch(int64_t numbers) {
  static thread_local Scratch scratch;
  return static_cast<BFloat16*>(scratch.reserve(numbers * int64_t(sizeof(BFloat16))));
}

// What a call of a function works on.
template <bool runs>
struct Junction {
  const Masks& masks;
  const Walk<runs> walk{masks};
  const int64_t inputs = masks.inputs(), outputs = masks.outputs();
  const int64_t input_panels = masks.mask_columns(), output_panels = masks.mask_rows() / kPanel;

  // Weights of 32 right neurons as A tiles, even ones in the first of two and odd ones in the
  // second, so that two rows of sums make up pairs of neighbours.
  void expand_rows(const BFloat16* weight, int64_t panel, BFloat16* tiles) const {
    const BFloat16* at[kPanel];
    walk.start(masks, weight, panel * kPanel, kPanel, 0, at);
    for (int64_t step = 0; step < input_panels; step++, tiles += 2 * kTile) {
      const uint32_t* mask = masks.column(step) + panel * kPanel;
      for (int64_t i = 0; i < kPanel; i++) {
        _mm512_store_si512(tiles + i % 2 * kTile + i / 2 * kStep, walk.expand(mask[i], at[i]));
        walk.pass(mask[i], at + i);
      }
    }
  }

  // Weights of 32 left neurons as B tiles; in groups of four the neurons alternate between two.
  void expand_columns(int64_t panel, const BFloat16** at, BFloat16* tiles) const {
    const uint32_t* mask = masks.column(panel);
    for (int64_t step = 0; step < output_panels; step++, tiles += kTile) {
      for (int64_t i = 0; i < kPanel; i += 2, mask += 2, at += 2, tiles += kStep) {
        const __m512i even = walk.expand(mask[0], at[0]), odd = walk.expand(mask[1], at[1]);
        _mm512_store_si512(tiles, _mm512_unpacklo_epi16(even, odd));
        _mm512_store_si512(tiles + kTile, _mm512_unpackhi_epi16(even, odd));
        walk.pass(mask[0], at);
        walk.pass(mask[1], at + 1);
      }
    }
  }

  void forward(const Matrix& x, const BFloat16* weight, const Finish& finish, BFloat16* y,
               int64_t batch, int threads) const {
    static thread_local Scratch scratch;
    for (int64_t start = 0; start < batch; start += kBatch) {
      const int64_t samples = smaller(kBatch, batch - start);
      const Source source(x, start, samples, inputs);
      const Panels panels{divide_up(samples, kTileRows), input_panels};
      BFloat16* packed = static_cast<BFloat16*>(scratch.reserve(panels.size() * 2));
#pragma omp parallel num_threads(threads) if (threads > 1)
      {
#pragma omp for schedule(static) collapse(2)
        for (int64_t tile = 0; tile < panels.tiles; tile++) {
          for (int64_t step = 0; step < panels.steps; step++) {
            pack_columns(source, tile * kTileRows, step * kStep, packed + panels.tile(tile, step));
          }
        }
        const TileRegisters registers;
        const int64_t kept_size = 2 * panels.steps * kTile;
        for_each_unit(output_panels, kept_size * 2, panels.count(), threads,
                      [&](Range kept, Range again) {
                        BFloat16* tiles = own_scratch((kept.last - kept.first) * kept_size);
                        for (int64_t k = kept.first; k < kept.last; k++) {
                          expand_rows(weight, k, tiles + (k - kept.first) * kept_size);
                        }
                        for (int64_t panel = again.first; panel < again.last; panel++) {
                          for (int64_t k = kept.first; k < kept.last; k++) {
                            Sums sums;
                            multiply_panels(2, panels.width(panel),
                                            tiles + (k - kept.first) * kept_size,
                                            packed + panels.start(panel), panels.steps,
                                            sums.tile[0][0]);
                            store_turned(sums, panels.width(panel), finish, k * kPanel,
                                         start + panel * kPanel, start + samples, y);
                          }
                        }
                      });
      }
    }
  }

  // y of 32 right neurons from sums whose rows are neurons.
  void store_turned(const Sums& sums, int64_t width, const Finish& finish, int64_t output,
                    int64_t first, int64_t batch, BFloat16* y) const {
    const __mmask32 lanes = first_lanes(outputs - output);
    alignas(64) float bias[kPanel] = {};
    if (finish.bias) {
      const BFloat16* from = static_cast<const BFloat16*>(finish.bias) + output;
      for (int64_t i = 0; i < smaller(kPanel, outputs - output); i++) bias[i] = widen(from[i]);
    }
    // cell i of both halves side by side
    const __m512i zip = _mm512_or_si512(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
        _mm512_set1_epi32(16 << 16));
    const __m512i merge = _mm512_add_epi16(
        zip, _mm512_slli_epi32(
                 _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 16));
    for (int64_t q = 0; q < width; q++) {
      __m512i rows[kTileRows];
      DNC_UNROLL for (int i = 0; i < kTileRows; i++) {
        __m512 even = _mm512_load_ps(sums.tile[q][i]) + _mm512_set1_ps(bias[2 * i]);
        __m512 odd = _mm512_load_ps(sums.tile[width + q][i]) + _mm512_set1_ps(bias[2 * i + 1]);
        if (finish.relu) even = positive(even), odd = positive(odd);
        rows[i] = _mm512_permutexvar_epi16(merge, rounded(even, odd));
      }
      turn(rows);
      const int64_t sample = first + q * kTileRows;
      DNC_UNROLL for (int i = 0; i < kTileRows; i++) {
        if (sample + i < batch) {
          _mm512_mask_storeu_epi16(y + (sample + i) * outputs + output, lanes, rows[i]);
        }
      }
    }
  }

  void grad_input(const Matrix& grad_y, const BFloat16* weight, BFloat16* grad_x, int64_t batch,
                  int threads) const {
    static thread_local Scratch scratch;
    for (int64_t start = 0; start < batch; start += kBatch) {
      const int64_t samples = smaller(kBatch, batch - start);
      const Source source(grad_y, start, samples, outputs);
      const Panels panels{divide_up(samples, kTileRows), output_panels};
      BFloat16* packed = static_cast<BFloat16*>(scratch.reserve(panels.size() * 2));
#pragma omp parallel num_threads(threads) if (threads > 1)
      {
#pragma omp for schedule(static) collapse(2)
        for (int64_t tile = 0; tile < panels.tiles; tile++) {
          for (int64_t step = 0; step < panels.steps; step++) {
            pack_rows(source, tile * kTileRows, step * kStep, packed + panels.tile(tile, step));
          }
        }
        const TileRegisters registers;
        static thread_local std::vector<const BFloat16*> at;
        at.resize(size_t(masks.mask_rows()));
        const int64_t kept_size = 2 * panels.steps * kTile;
        for_each_unit(input_panels, kept_size * 2, panels.count(), threads,
                      [&](Range kept, Range again) {
                        BFloat16* tiles = own_scratch((kept.last - kept.first) * kept_size);
                        walk.start(masks, weight, 0, masks.mask_rows(), kept.first, at.data());
                        for (int64_t k = kept.first; k < kept.last; k++) {
                          expand_columns(k, at.data(), tiles + (k - kept.first) * kept_size);
                        }
                        for (int64_t panel = again.first; panel < again.last; panel++) {
                          for (int64_t k = kept.first; k < kept.last; k++) {
                            Sums sums;
                            multiply_panels(panels.width(panel), 2, packed + panels.start(panel),
                                            tiles + (k - kept.first) * kept_size, panels.steps,
                                            sums.tile[0][0]);
                            store_rows(sums, panels.width(panel), k * kPanel,
                                       start + panel * kPanel, start + samples, grad_x);
                          }
                        }
                      });
      }
    }
  }

  // grad_x of 32 left neurons from sums whose rows are samples.
  void store_rows(const Sums& sums, int64_t width, int64_t input, int64_t first, int64_t batch,
                  BFloat16* grad_x) const {
    const __mmask32 lanes = first_lanes(inputs - input);
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    for (int64_t i = 0; i < smaller(width * kTileRows, batch - first); i++) {
      const auto* tile = sums.tile[i / kTileRows * 2];
      const __m512i cells = rounded(_mm512_load_ps(tile[i % kTileRows]),
                                    _mm512_load_ps(tile[kTileRows + i % kTileRows]));
      _mm512_mask_storeu_epi16(grad_x + (first + i) * inputs + input, lanes,
                               _mm512_permutexvar_epi64(order, cells));
    }
  }

  void grad_weight(const Matrix& grad_y, const Matrix& x, BFloat16* grad, int64_t batch,
                   int threads) const {
    static thread_local Scratch scratch;
    const int64_t steps = divide_up(batch, kStep), size = 2 * steps * kTile;
    const Source left(x, 0, batch, inputs), right(grad_y, 0, batch, outputs);
    BFloat16* packed =
        static_cast<BFloat16*>(scratch.reserve((input_panels + output_panels) * size * 2));
    BFloat16* packed_right = packed + input_panels * size;
    if (masks.has_empty_slots()) std::memset(grad, 0, size_t(masks.weights()) * sizeof *grad);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static) collapse(2) nowait
      for (int64_t panel = 0; panel < input_panels; panel++) {
        for (int64_t step = 0; step < steps; step++) {
          pack_pairs(left, step * kStep, panel * kPanel, packed + panel * size + step * 2 * kTile);
        }
      }
#pragma omp for schedule(static) collapse(2)
      for (int64_t panel = 0; panel < output_panels; panel++) {
        for (int64_t step = 0; step < steps; step++) {
          pack_turned(right, step * kStep, panel * kPanel,
                      packed_right + panel * size + step * 2 * kTile);
        }
      }
      const TileRegisters registers;
      static thread_local std::vector<BFloat16*> at;
      for_each_unit(output_panels, size * 2 + 1, input_panels, threads,
                    [&](Range kept, Range again) {
                      const int64_t first = kept.first * kPanel;
                      at.resize(size_t((kept.last - kept.first) * kPanel));
                      walk.start(masks, grad, first, int64_t(at.size()), again.first, at.data());
                      for (int64_t panel = again.first; panel < again.last; panel++) {
                        for (int64_t k = kept.first; k < kept.last; k++) {
                          Sums sums;
                          multiply_panels<2, 2>(packed_right + k * size, packed + panel * size,
                                                steps, sums.tile[0][0]);
                          store_edges(sums, masks.column(panel) + k * kPanel,
                                      at.data() + (k * kPanel - first));
                        }
                      }
                    });
    }
  }

  // The gradients of the edges between 32 left and 32 right neurons.
  void store_edges(const Sums& sums, const uint32_t* mask, BFloat16** at) const {
    for (int64_t i = 0; i < kPanel; i++) {
      const auto* tile = sums.tile[i / kTileRows * 2];
      const __m512i cells = rounded(_mm512_load_ps(tile[i % kTileRows]),
                                    _mm512_load_ps(tile[kTileRows + i % kTileRows]));
      walk.compress(cells, mask[i], at[i]);
      walk.pass(mask[i], at + i);
    }
  }
};

// call(the junction, compiled for its kind of blocks)
template <class Call>
void with_junction(const Masks& masks, Call call) {
  masks.by_runs() ? call(Junction<true>{masks}) : call(Junction<false>{masks});
}

void forward(const Masks& masks, const Matrix& x, const void* weight, const Finish& finish, void* y,
             int64_t batch, int threads) {
  with_junction(masks, [&](const auto& junction) {
    junction.forward(x, static_cast<const BFloat16*>(weight), finish, static_cast<BFloat16*>(y),
                     batch, threads);
  });
}

void grad_input(const Masks& masks, const Matrix& grad_y, const void* weight, void* grad_x,
                int64_t batch, int threads) {
  with_junction(masks, [&](const auto& junction) {
    junction.grad_input(grad_y, static_cast<const BFloat16*>(weight),
                        static_cast<BFloat16*>(grad_x), batch, threads);
  });
}

void grad_weight(const Masks& masks, const Matrix& grad_y, const Matrix& x, void* grad,
                 int64_t batch, int threads) {
  with_junction(masks, [&](const auto& junction) {
    junction.grad_weight(grad_y, x, static_cast<BFloat16*>(grad), batch, threads);
  });
}

}  // namespace

extern const MaskedKernels kernels;
const MaskedKernels kernels = {forward, grad_input, grad_weight};

}  // namespace dnc::DNC_ISA
