// A table as the kernels read it.
#pragma once

#include "launchers.cuh"

namespace dnc::cuda {

// The edges of one group in one tile, with where their weights lie.
class Cell {
 public:
  // unit: tile * groups + group
  DNC_DEVICE Cell(const dnc_table& table, int64_t unit)
      : table_(table),
        first_column_(unit / table.groups * table.tile),
        first_output_(unit % table.groups * table.share) {}

  // The number of the weight at a place of [quads, 4, share], -1 where the table is empty.
  DNC_DEVICE int64_t weight(int64_t place) const {
    const int64_t edge = place / table_.share;
    const int64_t flat = table_.order[edge];
    if (flat < 0 || table_.cells == 1) return flat;
    const int64_t output = first_output_ + place % table_.share;
    const int64_t column = first_column_ + table_.offset[edge];
    return flat * table_.cells + output % table_.output_block * table_.output_step +
           column % table_.column_block * table_.column_step;
  }

 private:
  const dnc_table& table_;
  int64_t first_column_, first_output_;
};

// What a block of one of the products holds in shared memory: some columns of x, each with as many
// samples as 32 lanes hold in `vectors` accesses of 16 bytes, and a column of zeros for the empty
// edges. Lanes lie along the samples, so that no pattern makes two of them meet in a bank.
template <class T, int vectors>
struct SampleTile {
  static constexpr int kSamples = vectors * kLanes * kVector<T>;
  static constexpr int kBytes = vectors * kLanes * 16;

  static constexpr int64_t shared_bytes(int64_t tile) { return (tile + 1) * kBytes; }

  DNC_DEVICE static void clear_empty(int64_t tile) {
    for (int i = threadIdx.x; i < kBytes / 16; i += blockDim.x) {
      shared_store(shared_memory() + tile * kBytes + i * 16, uint4{0, 0, 0, 0});
    }
  }

  // Copy columns [first, last) from x, [columns, stride], at a sample.
  DNC_DEVICE static void fill(const T* x, int64_t stride, int64_t sample, int64_t first,
                              int64_t last) {
    const int pieces = int(last - first) * (kBytes / 16);
    const T* from = x + first * stride + sample;
    for (int i = threadIdx.x; i < pieces; i += blockDim.x) {
      const int column = i / (kBytes / 16), piece = i % (kBytes / 16);
      copy_async(shared_memory() + int64_t(i) * 16, from + column * stride + piece * kVector<T>);
    }
    copies_wait();
  }
};

// The largest tile with which two blocks share a multiprocessor.
template <class Tile>
int64_t largest_tile(int64_t shared_bytes) {
  // of each block 1 KiB is the system's, and one column is of zeros
  const int64_t columns = (shared_bytes / 2 - 1024) / Tile::kBytes - 1;
  return columns / 16 * 16;
}

// The columns of a quad's four edges.
DNC_DEVICE void quad_columns(const dnc_table& table, int64_t quad, uint32_t (&columns)[4]) {
  const uint2 pairs = reinterpret_cast<const uint2*>(table.offset)[quad];
  columns[0] = pairs.x & 0xffff;
  columns[1] = pairs.x >> 16;
  columns[2] = pairs.y & 0xffff;
  columns[3] = pairs.y >> 16;
}

}  // namespace dnc::cuda
