// A junction's functions as dense products of AMX tiles, whose weights are expanded from the edges
// on the way in, or compressed to them on the way out.
//
// | function    | kept panels (A or B)     | streamed panels     | what is kept is made by      |
// |-------------|--------------------------|---------------------|------------------------------|
// | forward     | A: weights, outputs      | B: x, samples       | expanding rows of weights    |
// | grad_input  | B: weights, inputs       | A: grad_y, samples  | expanding columns of weights |
// | grad_weight | A: grad_y, outputs       | B: x, inputs        | packing                      |
//
// for each part of the streamed panels (it stays in L2):
//   pack it, all threads together
//   for each unit (some kept panels), on one thread:
//     for each kept panel, for each chunk of its steps (it stays in L1):
//       prepare the chunk
//       for each streamed panel of the part: 2 x 2 tiles of sums, which the last chunk finishes
#include <vector>

#include "expand.hpp"
#include "tile_pack.hpp"

namespace dnc::DNC_ISA {

namespace {

// Steps of a chunk, at most: 32 KiB, two thirds of an L1 of 48 KiB.
constexpr int64_t kChunkSteps = 16;
// A part's panels: half of an L2 of 2 MiB, beside their sums.
constexpr int64_t kPartBytes = 1 << 20;
constexpr int64_t kPartPanels = 32;

// Panels of tiles in memory, one after another; the last one may be one tile wide.
struct Panels {
  int64_t tiles, steps;
  BFloat16* memory;

  int64_t count() const { return divide_up(tiles, 2); }
  int64_t width(int64_t panel) const { return smaller(2, tiles - 2 * panel); }
  BFloat16* at(int64_t panel, int64_t step) const {
    return memory + (panel * 2 * steps + step * width(panel)) * kTile;
  }
  BFloat16* tile(int64_t tile, int64_t step) const { return at(tile / 2, step) + tile % 2 * kTile; }
};

int64_t panel_bytes(int64_t tiles, int64_t steps) {
  return tiles * steps * kTile * int64_t(sizeof(BFloat16));
}

struct Range {
  int64_t first, last;
};

// Panels of a part: all of them, cut into equal parts that fit.
int64_t part_panels(int64_t panels, int64_t steps) {
  const int64_t fitting = smaller(kPartPanels, kPartBytes / panel_bytes(2, steps));
  return divide_up(panels, divide_up(panels, fitting > 0 ? fitting : 1));
}

// work(some of `kept` panels, some of the part's), by the threads of a parallel region.
template <class Work>
void for_each_unit(int64_t kept, const Panels& part, int threads, Work work) {
  const TileRegisters registers;
  const int64_t chunk = divide_up(kept, threads), chunks = divide_up(kept, chunk);
  // where a few panels are kept, threads share the streamed ones
  const int64_t piece = divide_up(part.count(), divide_up(threads, chunks));
  const int64_t pieces = divide_up(part.count(), piece);
#pragma omp for schedule(static)
  for (int64_t unit = 0; unit < pieces * chunks; unit++) {
    const int64_t first = unit % chunks * chunk, start = unit / chunks * piece;
    work(Range{first, smaller(kept, first + chunk)},
         Range{start, smaller(part.count(), start + piece)});
  }
}

// The products of one kept panel with streamed ones: prepare(first step, steps) gives a chunk of
// the former, finish(panel, sums) takes what is done.
template <bool streams_a, class Prepare, class Use>
void multiply_kept(const Panels& streamed, Range panels, Prepare prepare, Use finish) {
  static thread_local Scratch scratch;
  Sums* sums = static_cast<Sums*>(scratch.reserve(kPartPanels * int64_t(sizeof(Sums))));
  const int64_t steps = streamed.steps;
  const int64_t chunk = divide_up(steps, divide_up(steps, kChunkSteps));
  for (int64_t step = 0; step < steps; step += chunk) {
    const int64_t count = smaller(chunk, steps - step);
    const BFloat16* kept = prepare(step, count);
    for (int64_t panel = panels.first; panel < panels.last; panel++) {
      // those of a single chunk leave L1 at once
      Sums& own = sums[chunk < steps ? panel - panels.first : 0];
      multiply_streamed<streams_a>(kept, streamed.at(panel, step), streamed.width(panel), count,
                                   step > 0, own);
      if (step + count == steps) finish(panel, own);
    }
  }
}

// work(a part of the samples as panels, its first sample), by all threads of a parallel region,
// after pack(a tile's number, a step, where the tile is to be).
template <class Pack, class Work>
void stream_samples(int64_t batch, int64_t steps, int threads, Pack pack, Work work) {
  static thread_local Scratch scratch;
  const int64_t panels = divide_up(batch, kPanel), most = panels ? part_panels(panels, steps) : 0;
  BFloat16* memory = static_cast<BFloat16*>(scratch.reserve(panel_bytes(2 * most, steps)));
#pragma omp parallel num_threads(threads) if (threads > 1)
  for (int64_t first = 0; first < batch; first += most * kPanel) {
    const int64_t samples = smaller(most * kPanel, batch - first);
    const Panels part{divide_up(samples, kTileRows), steps, memory};
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < part.tiles; tile++) {
      for (int64_t step = 0; step < steps; step++) {
        pack(first / kTileRows + tile, step, part.tile(tile, step));
      }
    }
    work(part, first);
  }
}

// What a call of a function works on.
template <bool runs>
struct Junction {
  const Masks& masks;
  const Walk<runs> walk{masks};
  const int64_t inputs = masks.inputs(), outputs = masks.outputs();
  const int64_t input_panels = masks.mask_columns(), output_panels = masks.mask_rows() / kPanel;

  // Weights of 32 right neurons and some steps of left ones as A tiles, even neurons in the first
  // of two and odd ones in the second, so that two rows of sums make up pairs of neighbours.
  void expand_rows(int64_t panel, Range steps, const BFloat16** at, BFloat16* tiles) const {
    for (int64_t step = steps.first; step < steps.last; step++, tiles += 2 * kTile) {
      const uint32_t* mask = masks.column(step) + panel * kPanel;
      for (int64_t i = 0; i < kPanel; i++) {
        _mm512_store_si512(tiles + i % 2 * kTile + i / 2 * kStep, walk.expand(mask[i], at[i]));
        walk.pass(mask[i], at + i);
      }
    }
  }

  // Weights of 32 left neurons and some steps of right ones as B tiles: of every eight neurons four
  // are in the first of two, the others in the second.
  void expand_columns(int64_t panel, Range steps, const BFloat16** at, BFloat16* tiles) const {
    const uint32_t* mask = masks.column(panel);
    for (int64_t step = steps.first; step < steps.last; step++, tiles += kTile) {
      for (int64_t i = step * kStep; i < (step + 1) * kStep; i += 2, tiles += kStep) {
        const __m512i even = walk.expand(mask[i], at[i]);
        const __m512i odd = walk.expand(mask[i + 1], at[i + 1]);
        _mm512_store_si512(tiles, _mm512_unpacklo_epi16(even, odd));
        _mm512_store_si512(tiles + kTile, _mm512_unpackhi_epi16(even, odd));
        walk.pass(mask[i], at + i);
        walk.pass(mask[i + 1], at + i + 1);
      }
    }
  }

  void forward(const Matrix& x, const BFloat16* weight, const Finish& finish, BFloat16* y,
               int64_t batch, int threads) const {
    const auto pack = [=, source = Source(x, batch, inputs)](int64_t tile, int64_t step,
                                                             BFloat16* packed) {
      pack_columns(source, tile * kTileRows, step * kStep, packed);
    };
    stream_samples(batch, input_panels, threads, pack, [&](const Panels& part, int64_t first) {
      for_each_unit(output_panels, part, threads, [&](Range kept, Range own) {
        alignas(64) BFloat16 chunk[kChunkSteps * 2 * kTile];
        const BFloat16* at[kPanel];
        for (int64_t panel = kept.first; panel < kept.last; panel++) {
          walk.start(masks, weight, panel * kPanel, kPanel, 0, at);
          const auto expand = [&](int64_t step, int64_t steps) {
            expand_rows(panel, {step, step + steps}, at, chunk);
            return chunk;
          };
          multiply_kept<false>(part, own, expand, [&](int64_t samples, const Sums& sums) {
            store_turned(sums, part.width(samples), finish, panel * kPanel,
                         first + samples * kPanel, batch, y);
          });
        }
      });
    });
  }

  // y of 32 right neurons from sums whose rows are neurons.
  void store_turned(const Sums& sums, int64_t width, const Finish& finish, int64_t output,
                    int64_t sample, int64_t batch, BFloat16* y) const {
    const __mmask32 lanes = first_lanes(outputs - output);
    alignas(64) float bias[kPanel] = {};
    if (finish.bias) {
      const BFloat16* from = static_cast<const BFloat16*>(finish.bias) + output;
      for (int64_t i = 0; i < smaller(kPanel, outputs - output); i++) bias[i] = widen(from[i]);
    }
    for (int64_t q = 0; q < width; q++, sample += kTileRows) {
      __m512i rows[kTileRows];
      DNC_UNROLL for (int i = 0; i < kTileRows; i++) {
        Vec<float> even = load(sums.tile[0][q][i]) + broadcast(bias[2 * i]);
        Vec<float> odd = load(sums.tile[1][q][i]) + broadcast(bias[2 * i + 1]);
        if (finish.relu) even = positive(even), odd = positive(odd);
        rows[i] = zipped(rounded((__m512)even, (__m512)odd));
      }
      turn(rows);
      DNC_UNROLL for (int i = 0; i < kTileRows; i++) {
        if (sample + i < batch) {
          _mm512_mask_storeu_epi16(y + (sample + i) * outputs + output, lanes, rows[i]);
        }
      }
    }
  }

  void grad_input(const Matrix& grad_y, const BFloat16* weight, BFloat16* grad_x, int64_t batch,
                  int threads) const {
    const auto pack = [=, source = Source(grad_y, batch, outputs)](int64_t tile, int64_t step,
                                                                   BFloat16* packed) {
      pack_rows(source, tile * kTileRows, step * kStep, packed);
    };
    stream_samples(batch, output_panels, threads, pack, [&](const Panels& part, int64_t first) {
      for_each_unit(input_panels, part, threads, [&](Range kept, Range own) {
        alignas(64) BFloat16 chunk[kChunkSteps * 2 * kTile];
        static thread_local std::vector<const BFloat16*> at;
        at.resize(size_t(masks.mask_rows()));
        walk.start(masks, weight, 0, masks.mask_rows(), kept.first, at.data());
        for (int64_t panel = kept.first; panel < kept.last; panel++) {
          const auto expand = [&](int64_t step, int64_t steps) {
            expand_columns(panel, {step, step + steps}, at.data(), chunk);
            return chunk;
          };
          multiply_kept<true>(part, own, expand, [&](int64_t samples, const Sums& sums) {
            store_rows(sums, panel * kPanel, first + samples * kPanel, batch, grad_x);
          });
        }
      });
    });
  }

  // grad_x of 32 left neurons from sums whose rows are samples.
  void store_rows(const Sums& sums, int64_t input, int64_t sample, int64_t batch,
                  BFloat16* grad_x) const {
    const __mmask32 lanes = first_lanes(inputs - input);
    for (int64_t i = 0; i < smaller(kPanel, batch - sample); i++) {
      _mm512_mask_storeu_epi16(grad_x + (sample + i) * inputs + input, lanes,
                               in_order(row(sums, i)));
    }
  }

  void grad_weight(const Matrix& grad_y, const Matrix& x, BFloat16* grad, int64_t batch,
                   int threads) const {
    if (batch == 0 || masks.has_empty_slots()) {
      std::memset(static_cast<void*>(grad), 0, size_t(masks.weights()) * sizeof *grad);
    }
    if (batch == 0) return;
    static thread_local Scratch scratch;
    const int64_t steps = divide_up(batch, kStep), most = part_panels(input_panels, steps);
    const int64_t right_bytes = panel_bytes(2 * output_panels, steps);
    char* memory = static_cast<char*>(scratch.reserve(right_bytes + panel_bytes(2 * most, steps)));
    const Panels right{2 * output_panels, steps, reinterpret_cast<BFloat16*>(memory)};
    const Source left_source(x, batch, inputs), right_source(grad_y, batch, outputs);
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < input_panels; first += most) {
      const Panels left{2 * smaller(most, input_panels - first), steps,
                        reinterpret_cast<BFloat16*>(memory + right_bytes)};
      const int64_t packed_right = first ? 0 : output_panels;
#pragma omp for schedule(static) nowait
      for (int64_t step = 0; step < steps; step++) {
        for (int64_t panel = 0; panel < packed_right; panel++) {
          pack_turned(right_source, step * kStep, panel * kPanel, right.at(panel, step));
        }
      }
#pragma omp for schedule(static)
      for (int64_t step = 0; step < steps; step++) {
        for (int64_t panel = 0; panel < left.count(); panel++) {
          pack_pairs(left_source, step * kStep, (first + panel) * kPanel, left.at(panel, step));
        }
      }
      for_each_unit(output_panels, left, threads, [&](Range kept, Range own) {
        BFloat16* at[kPanel];
        for (int64_t panel = kept.first; panel < kept.last; panel++) {
          walk.start(masks, grad, panel * kPanel, kPanel, first + own.first, at);
          const auto chunk = [&](int64_t step, int64_t) { return right.at(panel, step); };
          multiply_kept<false>(left, own, chunk, [&](int64_t input, const Sums& sums) {
            store_edges(sums, masks.column(first + input) + panel * kPanel, at);
          });
        }
      });
    }
  }

  // The gradients of the edges between 32 left and 32 right neurons.
  void store_edges(const Sums& sums, const uint32_t* mask, BFloat16** at) const {
    for (int64_t i = 0; i < kPanel; i++) {
      walk.compress(row(sums, i), mask[i], at[i]);
      walk.pass(mask[i], at + i);
    }
  }

  // A row of both tiles side by side.
  static DNC_INLINE __m512i row(const Sums& sums, int64_t i) {
    const auto& tiles = sums.tile[i / kTileRows];
    return rounded(_mm512_load_ps(tiles[0][i % kTileRows]),
                   _mm512_load_ps(tiles[1][i % kTileRows]));
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
