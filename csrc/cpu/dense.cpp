#include "dense.h"

#include <cstring>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace dnc {

namespace {

// Bytes of a dense matrix below which waking a second thread costs more than it brings.
constexpr int64_t kSerialBytes = 1 << 18;

// Memory that is surely mapped anew for each matrix, and the pages that it is better mapped in:
// touching as many small ones for the first time costs more than the scatter.
constexpr int64_t kMapped = 32 << 20;
constexpr int64_t kHugePage = 2 << 20;

void prefer_huge_pages(char* memory, int64_t bytes) {
#ifdef __linux__
  if (bytes < kMapped) return;
  const int64_t before = -reinterpret_cast<intptr_t>(memory) & (kHugePage - 1);
  // only a wish: where it is refused, pages are small
  madvise(memory + before, size_t((bytes - before) / kHugePage * kHugePage), MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

// Both directions, line by line: the numbers that a right neuron has in one block, `fixed` bytes
// long so that they move in registers, or any length when that is 0.
template <bool scatters, int64_t fixed>
void move_lines(const Places& p, char* weight, char* dense, int threads) {
  const int64_t bytes = fixed ? fixed : p.column_block * p.item_bytes;
  const int64_t width = p.columns * bytes;
  if (p.edges.rows * p.row_block * width < kSerialBytes) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t neuron = 0; neuron < p.edges.rows * p.row_block; neuron++) {
    const int64_t row = neuron / p.row_block, stride = p.row_block * bytes;
    const int64_t first = p.edges.first(row), slots = p.edges.last(row) - first;
    const int32_t* source = p.edges.sources + first;
    char* line = weight + first * stride + neuron % p.row_block * bytes;
    char* place = dense + neuron * width;
    if (scatters) std::memset(place, 0, size_t(width));
    for (int64_t slot = 0; slot < slots; slot++, line += stride) {
      if (source[slot] < 0) {
        if (!scatters) std::memset(line, 0, size_t(bytes));
      } else if (scatters) {
        std::memcpy(place + source[slot] * bytes, line, size_t(bytes));
      } else {
        std::memcpy(line, place + source[slot] * bytes, size_t(bytes));
      }
    }
  }
}

template <bool scatters>
void move(const Places& p, char* weight, char* dense, int threads) {
  switch (p.column_block * p.item_bytes) {
    case 2:
      return move_lines<scatters, 2>(p, weight, dense, threads);
    case 4:
      return move_lines<scatters, 4>(p, weight, dense, threads);
    case 8:
      return move_lines<scatters, 8>(p, weight, dense, threads);
    case 16:
      return move_lines<scatters, 16>(p, weight, dense, threads);
    case 32:
      return move_lines<scatters, 32>(p, weight, dense, threads);
    default:
      return move_lines<scatters, 0>(p, weight, dense, threads);
  }
}

}  // namespace

void scatter(const Places& places, const void* weight, void* dense, int threads) {
  // weights are only read in this direction
  char* from = const_cast<char*>(static_cast<const char*>(weight));
  char* to = static_cast<char*>(dense);
  prefer_huge_pages(to, places.edges.rows * places.row_block * places.columns *
                            places.column_block * places.item_bytes);
  move<true>(places, from, to, threads);
}

void gather(const Places& places, const void* dense, void* weight, int threads) {
  char* from = const_cast<char*>(static_cast<const char*>(dense));
  move<false>(places, static_cast<char*>(weight), from, threads);
}

void scatter(const Masks& masks, int64_t item_bytes, const void* weight, void* dense, int threads) {
  const int64_t bytes = masks.outputs() * masks.inputs() * item_bytes;
  prefer_huge_pages(static_cast<char*>(dense), bytes);
  vbmi2_moves()->scatter(masks, weight, dense, item_bytes, bytes < kSerialBytes ? 1 : threads);
}

void gather(const Masks& masks, int64_t item_bytes, const void* dense, void* weight, int threads) {
  const int64_t bytes = masks.outputs() * masks.inputs() * item_bytes;
  if (masks.has_empty_slots()) std::memset(weight, 0, size_t(masks.weights() * item_bytes));
  vbmi2_moves()->gather(masks, dense, weight, item_bytes, bytes < kSerialBytes ? 1 : threads);
}

}  // namespace dnc
