// What the emulated copy engine, mbarriers and tensor cores remember, and their rules: the inner
// half of emulated_hopper.hpp.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "widened.hpp"

#define __grid_constant__

struct alignas(8) float2 {
  float x, y;
};

// A matrix of 16-bit numbers seen in boxes of 64 features.
struct alignas(64) CUtensorMap {
  char* data;
  int64_t rows, features, stride;
  int box_rows;
};

namespace dnc::cuda {

namespace emulated {

// where the window of shared memory begins: not at a multiple of what tiles need
constexpr uint32_t kWindow = 1040;

// Notes an error: the launch ends with it at the next wait.
inline void note(const char* what, uint64_t value) {
  if (emulator::error.empty()) emulator::error = what + (' ' + std::to_string(value));
}

inline void require(bool holds, const char* what, uint64_t value) {
  if (!holds) emulator::fail(what + (' ' + std::to_string(value)));
}

// Fair dice, the same in every run.
inline bool heads() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 63;
}

// What a thread has asked for and not yet got.
struct Thread {
  std::deque<std::function<void()>> products;
  std::vector<size_t> groups;  // products of each committed group, oldest first
  size_t open = 0;             // products of the group to come
  bool fenced = false;         // whether the group to come may have products
  bool eager = false;          // whether products run when issued
  size_t issued = 0;
  std::vector<std::function<void()>> boxes, committed;  // stores of boxes
  std::vector<std::pair<uint32_t, uint32_t>> words;
  std::vector<uint32_t> initialised;  // mbarriers, since the last fence
  int registers = 0;
  uint32_t pairs[4];  // that `store_transposed` exchanges
};

struct Product {
  uint64_t a, b;
  int n;
  bool accumulate, trans_a, trans_b;
};

struct Block {
  std::vector<Thread> threads = std::vector<Thread>(1024);
  std::vector<Product> products[8];  // of each warpgroup, in order
  emulator::Barrier barriers[16], groups[8];
  int registers = 0;  // of all threads
};

constexpr int kMostRanks = 8;

struct Cluster {
  Block blocks[kMostRanks];
  std::vector<std::function<void()>> copies;
  emulator::Barrier barrier;
  int64_t launch = 0;  // that this cluster is of
};

inline Cluster& cluster() {
  static Cluster value;
  return value;
}

inline Block& block() { return cluster().blocks[emulator::block().rank]; }

inline Thread& thread() { return block().threads[threadIdx.x]; }

// Reaches another block's shared memory for as long as it lives.
class InBlock {
 public:
  explicit InBlock(size_t rank) {
    emulator::current = &emulator::cluster[rank];
    if (emulator::current->done == emulator::current->threads.size()) {
      note("reaches a block of its cluster that has ended:", rank);
    }
  }
  ~InBlock() { emulator::current = before_; }
  InBlock(const InBlock&) = delete;

 private:
  emulator::Block* before_ = emulator::current;
};

inline unsigned char* shared(uint32_t address, uint32_t bytes) {
  if (address < kWindow || address + bytes > kWindow + emulator::block().shared_bytes ||
      address % bytes != 0) {
    note("shared memory address out of range or misaligned:", address);
    address = kWindow;
  }
  return emulator::block().shared + (address - kWindow);
}

template <class V>
V read(uint32_t address) {
  V value;
  std::memcpy(&value, shared(address, sizeof value), sizeof value);
  return value;
}

template <class V>
void write(uint32_t address, V value) {
  std::memcpy(shared(address, sizeof value), &value, sizeof value);
}

// Some copy under way brings its data.
inline void complete_copy() {
  std::vector<std::function<void()>>& copies = cluster().copies;
  if (copies.empty()) return;
  const size_t which = heads() ? 0 : copies.size() - 1;
  const std::function<void()> copy = std::move(copies[which]);
  copies.erase(copies.begin() + std::ptrdiff_t(which));
  copy();
}

// An mbarrier as it lies in shared memory: opaque to kernels.
struct Barrier {
  uint8_t valid, parity, expected, pending;
  int32_t bytes;
};
constexpr uint8_t kValid = 0xb5, kFenced = 0xb7;

inline Barrier barrier_at(uint32_t address) {
  const Barrier barrier = read<Barrier>(address);
  if (barrier.valid != kValid && barrier.valid != kFenced)
    note("no mbarrier was initialised at", address);
  return barrier;
}

// A phase ends when no arrival and no byte is awaited; the next one awaits the same arrivals.
inline void settle(uint32_t address, Barrier barrier) {
  if (barrier.bytes >= 1 << 20 || barrier.bytes <= -(1 << 20)) {
    note("tx-count past 2^20 - 1 of the mbarrier at", address);
  }
  if (barrier.pending == 0 && barrier.bytes == 0) {
    barrier.parity ^= 1;
    barrier.pending = barrier.expected;
  }
  write(address, barrier);
}

inline void arrive(uint32_t address, int bytes) {
  Barrier barrier = barrier_at(address);
  require(barrier.pending > 0, "arrives more often than counted at the mbarrier at", address);
  barrier.bytes += bytes;
  --barrier.pending;
  settle(address, barrier);
}

inline void check_tile(const CUtensorMap& map, uint32_t tile) {
  require(reinterpret_cast<uintptr_t>(&map) % 64 == 0, "tensor map not at a multiple of 64", 0);
  require(tile % kGroupBytes == 0, "tile not at a multiple of 1024", tile);
}

// The elements of a box that lie in the tensor, each with its swizzled place; others get null.
template <class Visit>
void for_box(const CUtensorMap& map, int feature, int row, uint32_t tile, Visit visit) {
  for (int r = 0; r < map.box_rows; ++r) {
    for (int f = 0; f < kTileWidth; ++f) {
      const int64_t global_row = int64_t{row} + r;
      const int64_t global_feature = int64_t{feature} + f;
      const bool inside = global_row >= 0 && global_row < map.rows && global_feature >= 0 &&
                          global_feature < map.features;
      char* global = inside ? map.data + (global_row * map.stride + global_feature) * 2 : nullptr;
      visit(global, tile + swizzled(r * kRowBytes + f * 2));
    }
  }
}

// What both operands must be for `element` to hold.
inline void check_operand(uint64_t operand) {
  require(operand >> 62 == 1, "multiplies an operand without the 128-byte swizzle:", operand);
  require((operand >> 49 & 7) == 0 && (operand >> 3 & 7) == 0,
          "multiplies an operand whose swizzle does not start at a multiple of 1024:", operand);
}

// The address of element (outer, k) of an operand: outer counts along the result's dimension.
inline uint32_t element(uint64_t operand, bool trans, int outer, int k) {
  const uint32_t start = (operand & 0x3fff) << 4;
  const uint32_t leading = (operand >> 16 & 0x3fff) << 4;
  const uint32_t stride = (operand >> 32 & 0x3fff) << 4;
  const uint32_t offset =
      trans ? outer / 64 * leading + outer % 64 * 2 + k / 8 * stride + k % 8 * kRowBytes
            : outer / 8 * stride + outer % 8 * kRowBytes + k * 2;
  return swizzled(start + offset);
}

template <class T>
float number(uint32_t address) {
  return widened<T>(read<uint16_t>(address));
}

// This thread's share of a product.
template <class T>
void multiply(float* d, const Product& p) {
  check_operand(p.a);
  check_operand(p.b);
  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x % kWarpGroup / 32 * 16 + lane / 4;
  float left[2][16];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 16; ++k) {
      left[half][k] = number<T>(element(p.a, p.trans_a, row + half * 8, k));
    }
  }
  for (int j = 0; j < p.n / 8; ++j) {
    for (int e = 0; e < 2; ++e) {
      float sums[2] = {0, 0};
      for (int k = 0; k < 16; ++k) {
        const float right = number<T>(element(p.b, p.trans_b, j * 8 + lane % 4 * 2 + e, k));
        sums[0] += left[0][k] * right;
        sums[1] += left[1][k] * right;
      }
      for (int half = 0; half < 2; ++half) {
        float& sum = d[j * 4 + half * 2 + e];
        sum = p.accumulate ? sum + sums[half] : sums[half];
      }
    }
  }
}

inline void run_products(size_t count) {
  for (; count > 0; --count) {
    thread().products.front()();
    thread().products.pop_front();
  }
}

}  // namespace emulated

}  // namespace dnc::cuda
