// Hopper's copy engine, mbarriers and tensor cores on the CPU: the other half of hopper.cuh.
//
// Written from the PTX ISA, to be harder than the hardware where the hardware is free to choose:
//   - a copy fills its destination with NaN when requested, and brings the data at once or not
//   before
//     a thread waits for it, in any order;
//   - a thread's products all run when issued or all when waited for, as the dice say;
//   - a store from shared memory reads it only when its thread waits;
//   - ordinary stores to shared memory reach it at the thread's next proxy fence.
// So a missing wait or fence, a stage given back too early and a wrong parity change numbers or
// stop the program. Rules whose breach is undefined end it with a message.
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
  bool eager = false;          // whether products run when issued
  size_t issued = 0;
  std::vector<std::function<void()>> boxes;  // stores of boxes
  std::vector<std::pair<uint32_t, uint32_t>> words;
};

struct Product {
  uint64_t a, b;
  int n;
  bool accumulate, trans_a, trans_b;
};

struct Block {
  std::vector<Thread> threads = std::vector<Thread>(1024);
  std::vector<Product> products[8];  // of each warpgroup, in order
  std::vector<std::function<void()>> copies;
  emulator::Barrier barriers[16];
  int64_t launch = 0;  // the launch that this block is of
};

inline Block& block() {
  static Block value;
  return value;
}

inline Thread& thread() { return block().threads[threadIdx.x]; }

inline unsigned char* shared(uint32_t address, uint32_t bytes) {
  if (address < kWindow || address + bytes > kWindow + emulator::block.shared_bytes ||
      address % bytes != 0) {
    note("shared memory address out of range or misaligned:", address);
    address = kWindow;
  }
  return emulator::block.shared + (address - kWindow);
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
  std::vector<std::function<void()>>& copies = block().copies;
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
constexpr uint8_t kValid = 0xb5;

inline Barrier barrier_at(uint32_t address) {
  const Barrier barrier = read<Barrier>(address);
  if (barrier.valid != kValid) note("no mbarrier was initialised at", address);
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

inline void stop_program() {}

// The first call of every thread of a block.
inline uint32_t dynamic_shared() {
  // what a launch that failed has left behind is no mistake of this one
  if (emulated::block().launch != emulator::launches) {
    emulated::block() = {};
    emulated::block().launch = emulator::launches;
  }
  emulated::Thread& thread = emulated::thread();
  emulated::require(thread.products.empty() && thread.boxes.empty() && thread.words.empty(),
                    "starts while the block before has work under way:", thread.products.size());
  emulated::require(
      emulated::block().copies.empty(),
      "starts while the block before has copies under way:", emulated::block().copies.size());
  thread = {};
  thread.eager = emulated::heads();
  for (std::vector<emulated::Product>& products : emulated::block().products) {
    products.clear();
  }
  return emulated::kWindow;
}

inline void store_shared(uint32_t address, uint32_t value) {
  emulated::thread().words.emplace_back(address, value);
}

inline uint32_t load_shared(uint32_t address) { return emulated::read<uint32_t>(address); }

template <class T>
uint32_t pack(float low, float high) {
  T pair[2];
  narrow(low, &pair[0]);
  narrow(high, &pair[1]);
  return pair[0].bits | uint32_t{pair[1].bits} << 16;
}

inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  emulated::require(arrivals > 0 && arrivals < 256, "arrivals of an mbarrier", arrivals);
  const uint8_t count = static_cast<uint8_t>(arrivals);
  emulated::write(barrier, emulated::Barrier{emulated::kValid, 0, count, count, 0});
}

inline void barrier_init_fence() {}

inline void barrier_arrive(uint32_t barrier) { emulated::arrive(barrier, 0); }

inline void barrier_expect(uint32_t barrier, uint32_t bytes) {
  emulated::arrive(barrier, static_cast<int>(bytes));
}

inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  // the current phase is incomplete, the one before it, of the other parity, complete; data comes
  // when somebody waits for it
  emulated::barrier_at(barrier);
  // what is ready may still be seen late
  if (emulated::heads()) emulator::suspend();
  emulator::wait_until(
      [=] {
        for (;;) {
          const emulated::Barrier state = emulated::barrier_at(barrier);
          if (state.parity != parity) return true;
          if (state.bytes == 0 || emulated::block().copies.empty()) return false;
          emulated::complete_copy();
        }
      },
      "an mbarrier");
}

inline void named_barrier(int name, int threads) {
  emulated::require(name > 0 && name < 16 && threads % 32 == 0, "has no named barrier", name);
  emulator::Barrier& barrier = emulated::block().barriers[name];
  barrier.name = "a named barrier";
  barrier.expected = threads;
  emulator::arrive_and_wait(barrier);
}

inline void __syncwarp() { emulator::arrive_and_wait(emulator::block.warps[threadIdx.x / 32]); }

inline void prefetch_map(const CUtensorMap&) {}

inline void load_box(uint32_t tile, const CUtensorMap& map, int feature, int row,
                     uint32_t barrier) {
  emulated::check_tile(map, tile);
  emulated::for_box(map, feature, row, tile, [](char*, uint32_t place) {
    emulated::write<uint16_t>(place, 0x7fff);  // NaN, in either type
  });
  emulated::block().copies.push_back([=] {
    emulated::for_box(map, feature, row, tile, [](char* global, uint32_t place) {
      uint16_t value = 0;
      if (global != nullptr) std::memcpy(&value, global, sizeof value);
      emulated::write(place, value);
    });
    emulated::Barrier state = emulated::barrier_at(barrier);
    state.bytes -= map.box_rows * kRowBytes;
    emulated::settle(barrier, state);
  });
  if (emulated::heads()) emulated::complete_copy();
}

inline void store_box(const CUtensorMap& map, int feature, int row, uint32_t tile) {
  emulated::check_tile(map, tile);
  emulated::thread().boxes.push_back([=] {
    emulated::for_box(map, feature, row, tile, [](char* global, uint32_t place) {
      const uint16_t value = emulated::read<uint16_t>(place);
      if (global != nullptr) std::memcpy(global, &value, sizeof value);
    });
  });
}

inline void commit_stores() {}

inline void wait_stores_read() {
  for (const std::function<void()>& store : emulated::thread().boxes) {
    store();
  }
  emulated::thread().boxes.clear();
}

inline void async_proxy_fence() {
  for (const auto& [address, value] : emulated::thread().words) {
    emulated::write(address, value);
  }
  emulated::thread().words.clear();
}

template <int kRegisters>
void fewer_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

template <int kRegisters>
void more_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

inline void products_fence() {}

inline void commit_products() {
  emulated::Thread& thread = emulated::thread();
  thread.groups.push_back(thread.open);
  thread.open = 0;
}

template <int kPending>
void wait_products() {
  emulated::Thread& thread = emulated::thread();
  for (; thread.groups.size() > kPending; thread.groups.erase(thread.groups.begin())) {
    emulated::run_products(thread.groups.front());
  }
  // the instruction waits for what the whole warp issued
  __syncwarp();
}

template <class T, int kN, bool kTransA, bool kTransB>
void product(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kN == 64 || kN == 128);
  const emulated::Product own{a, b, kN, accumulate, kTransA, kTransB};
  emulated::Thread& thread = emulated::thread();
  // every thread of a warpgroup issues the same products
  std::vector<emulated::Product>& all = emulated::block().products[threadIdx.x / kWarpGroup];
  if (thread.issued == all.size()) all.push_back(own);
  const emulated::Product& agreed = all[thread.issued++];
  emulated::require(agreed.a == a && agreed.b == b && agreed.n == kN &&
                        agreed.accumulate == accumulate && agreed.trans_a == kTransA &&
                        agreed.trans_b == kTransB,
                    "threads of a warpgroup issue different products", a);
  if (thread.eager) {
    emulated::multiply<T>(d, own);
    return;
  }
  float* sums = d;
  thread.products.push_back([=] { emulated::multiply<T>(sums, own); });
  ++thread.open;
}

// The rules of cuTensorMapEncodeTiled that depend on arguments.
template <class T>
cudaError_t encode_map(CUtensorMap& map, const void* data, int64_t rows, int64_t features,
                       int64_t stride, int box_rows) {
  const bool sizes = rows > 0 && rows <= int64_t{1} << 32 && features > 0 &&
                     features <= int64_t{1} << 32 && box_rows > 0 && box_rows <= 256;
  const bool steps = reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * 2 % 16 == 0 &&
                     stride * 2 < int64_t{1} << 40;
  if (!sizes || !steps) return cudaErrorInvalidValue;
  map = {static_cast<char*>(const_cast<void*>(data)), rows, features, stride, box_rows};
  return cudaSuccess;
}

}  // namespace dnc::cuda
