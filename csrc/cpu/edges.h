// The edges of a junction by right block row, as every table on the CPU is made from them.
#pragma once

#include <cstdint>

namespace dnc {

// Block columns of each row, ascending. Padded rows have `slots` each, -1 past their count; compact
// rows, where that would waste memory, stand one after another, without an empty slot.
struct Edges {
  const int32_t* sources;
  int64_t rows, slots;
  const int64_t* starts = nullptr;  // [rows + 1], where each compact row begins; null if padded

  bool compact() const { return starts != nullptr; }
  int64_t first(int64_t row) const { return starts ? starts[row] : row * slots; }
  int64_t last(int64_t row) const { return first(row + 1); }
  int64_t size() const { return first(rows); }
};

}  // namespace dnc
