// Hopper's copy engine, mbarriers and tensor cores on the CPU: the other half of hopper.cuh.
//
// Written from the PTX ISA, to be harder than the hardware where the hardware is free to choose:
//   - a copy fills its destination with NaN when requested, and brings the data at once or not
//     before a thread waits for it, in any order;
//   - a thread's products all run when issued or all when waited for, as the dice say, and some
//     warps of a warpgroup come to that later than others;
//   - a store from shared memory reads it only when its thread waits;
//   - ordinary stores to shared memory reach it at the thread's next proxy fence.
// So a missing wait or fence, a stage given back too early and a wrong parity change numbers or
// stop the program. Rules whose breach is undefined end it with a message: among them a group of
// products that no fence precedes, an mbarrier that the copy engine meets before the fence of its
// initialisation, stores that no group holds, and registers that the block does not have.
#pragma once

#include "emulated_hopper_state.hpp"

namespace dnc::cuda {

inline void stop_program() {}

inline void __syncwarp() { emulator::arrive_and_wait(emulator::block().warps[threadIdx.x / 32]); }

inline int cluster_rank() { return static_cast<int>(emulator::block().rank); }
inline int cluster_ranks() { return static_cast<int>(emulator::cluster.size()); }

inline void cluster_sync() {
  emulator::Barrier& barrier = emulated::cluster().barrier;
  barrier.name = "its cluster";
  barrier.expected = static_cast<int>(emulator::block_size.x) * cluster_ranks();
  emulator::arrive_and_wait(barrier);
}

// What every thread must have done when it ends.
inline void check_end() {
  if (emulated::cluster().launch != emulator::launches) return;
  const emulated::Thread& thread = emulated::thread();
  emulated::require(thread.products.empty(), "ends before its products:", thread.products.size());
  emulated::require(thread.boxes.empty() && thread.committed.empty(),
                    "ends before its stores have read shared memory:", thread.boxes.size());
  emulated::require(thread.words.empty(),
                    "ends with stores that nobody sees:", thread.words.size());
}

// The first call of every thread of a block.
inline uint32_t dynamic_shared() {
  // what a launch that failed has left behind is no mistake of this one
  emulated::Cluster& cluster = emulated::cluster();
  if (cluster.launch != emulator::launches) {
    cluster = {};
    cluster.launch = emulator::launches;
    emulator::at_end = check_end;
  }
  emulated::require(cluster.copies.empty(),
                    "starts while the block before has copies under way:", cluster.copies.size());
  emulated::Thread& thread = emulated::thread();
  thread = {};
  thread.eager = emulated::heads();
  // what a launch bound of one block to a multiprocessor leaves to each thread
  const int threads = static_cast<int>(emulator::block_size.x);
  thread.registers = 65536 / threads / 8 * 8;
  emulated::block().registers = threads * thread.registers;
  for (std::vector<emulated::Product>& products : emulated::block().products) {
    products.clear();
  }
  return emulated::kWindow;
}

inline void store_shared(uint32_t address, uint32_t value) {
  emulated::thread().words.emplace_back(address, value);
}

inline void store_transposed(uint32_t address, const uint32_t (&pairs)[4]) {
  emulated::require(address % 16 == 0, "stores a line of a matrix at", address);
  uint32_t (&exchanged)[4] = emulated::thread().pairs;
  std::memcpy(exchanged, pairs, sizeof exchanged);
  __syncwarp();
  const unsigned lane = threadIdx.x % 32, column = lane % 8;
  for (uint32_t row = 0; row < 8; row += 2) {
    uint32_t word = 0;
    for (uint32_t half = 0; half < 2; ++half) {
      const unsigned holder = threadIdx.x - lane + (row + half) * 4 + column / 2;
      const uint32_t pair = emulated::block().threads[holder].pairs[lane / 8];
      word |= (pair >> column % 2 * 16 & 0xffff) << half * 16;
    }
    store_shared(address + row * 2, word);
  }
  __syncwarp();
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
  emulated::thread().initialised.push_back(barrier);
}

inline void barrier_init_fence() {
  for (const uint32_t address : emulated::thread().initialised) {
    emulated::Barrier barrier = emulated::barrier_at(address);
    barrier.valid = emulated::kFenced;
    emulated::write(address, barrier);
  }
  emulated::thread().initialised.clear();
}

inline void barrier_arrive(uint32_t barrier) { emulated::arrive(barrier, 0); }

inline void barrier_arrive_at(uint32_t barrier, int rank) {
  const emulated::InBlock there(static_cast<size_t>(rank));
  emulated::arrive(barrier, 0);
}

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
          if (emulated::cluster().copies.empty()) return false;
          emulated::complete_copy();
        }
      },
      "the mbarrier", barrier);
}

inline void named_barrier(int name, int threads) {
  emulated::require(name > 0 && name < 16 && threads % 32 == 0, "has no named barrier", name);
  emulator::Barrier& barrier = emulated::block().barriers[name];
  barrier.name = "a named barrier";
  barrier.expected = threads;
  emulator::arrive_and_wait(barrier);
}

inline void prefetch_map(const CUtensorMap&) {}

inline void load_box_to(uint32_t tile, const CUtensorMap& map, int feature, int row,
                        uint32_t barrier, int mask) {
  emulated::check_tile(map, tile);
  std::vector<size_t> ranks;
  for (size_t rank = 0; rank < emulated::kMostRanks; ++rank) {
    if (mask >> rank & 1) ranks.push_back(rank);
  }
  emulated::require(!ranks.empty() && ranks.back() < emulator::cluster.size(),
                    "copies to blocks that its cluster lacks:", static_cast<uint64_t>(mask));
  for (const size_t rank : ranks) {
    const emulated::InBlock there(rank);
    emulated::require(emulated::barrier_at(barrier).valid == emulated::kFenced,
                      "copies before the fence of the mbarrier at", barrier);
    emulated::for_box(map, feature, row, tile, [](char*, uint32_t place) {
      emulated::write<uint16_t>(place, 0x7fff);  // NaN, in either type
    });
    emulated::cluster().copies.push_back([=] {
      const emulated::InBlock here(rank);
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
}

inline void load_box(uint32_t tile, const CUtensorMap& map, int feature, int row,
                     uint32_t barrier) {
  load_box_to(tile, map, feature, row, barrier, 1 << cluster_rank());
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

inline void commit_stores() {
  emulated::Thread& thread = emulated::thread();
  for (std::function<void()>& store : thread.boxes) thread.committed.push_back(std::move(store));
  thread.boxes.clear();
}

inline void wait_stores_read() {
  emulated::Thread& thread = emulated::thread();
  emulated::require(thread.boxes.empty(),
                    "waits for stores that no group holds:", thread.boxes.size());
  for (const std::function<void()>& store : thread.committed) store();
  thread.committed.clear();
}

inline void async_proxy_fence() {
  for (const auto& [address, value] : emulated::thread().words) {
    emulated::write(address, value);
  }
  emulated::thread().words.clear();
}

// All threads of a warpgroup, which get no more than the rest of the block has given back.
template <int kRegisters>
void change_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  emulated::require(emulator::has_launch_bound,
                    "changes the registers of a kernel without a launch bound to", kRegisters);
  emulated::Block& block = emulated::block();
  emulated::Thread& thread = emulated::thread();
  const int all = static_cast<int>(65536 / emulator::block_size.x / 8 * 8 * emulator::block_size.x);
  emulator::Barrier& group = block.groups[threadIdx.x / kWarpGroup];
  group.name = "its warpgroup to change registers";
  group.expected = kWarpGroup;
  emulator::arrive_and_wait(group);
  const int more = kRegisters - thread.registers;
  emulator::wait_until([&block, more, all] { return block.registers + more <= all; }, "registers");
  block.registers += more;
  thread.registers = kRegisters;
}

template <int kRegisters>
void fewer_registers() {
  change_registers<kRegisters>();
}

template <int kRegisters>
void more_registers() {
  change_registers<kRegisters>();
}

inline void products_fence() { emulated::thread().fenced = true; }

inline void commit_products() {
  emulated::Thread& thread = emulated::thread();
  thread.groups.push_back(thread.open);
  thread.open = 0;
  thread.fenced = false;
}

template <int kPending>
void wait_products() {
  emulated::Thread& thread = emulated::thread();
  // later warps are slower than those before them, or not
  for (unsigned warp = threadIdx.x % kWarpGroup / 32; warp > 0 && emulated::heads(); --warp) {
    emulator::suspend();
  }
  for (; thread.groups.size() > kPending; thread.groups.erase(thread.groups.begin())) {
    emulated::run_products(thread.groups.front());
  }
  // the instruction waits for what the whole warp issued
  __syncwarp();
}

template <int kSums>
void settle(float (&)[kSums]) {}

template <class T, int kN, bool kTransA, bool kTransB>
void product(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kN == 64 || kN == 128);
  const emulated::Product issued{a, b, kN, accumulate, kTransA, kTransB};
  emulated::Thread& thread = emulated::thread();
  emulated::require(thread.fenced, "multiplies in a group that no fence precedes:", a);
  // every thread of a warpgroup issues the same products
  std::vector<emulated::Product>& all = emulated::block().products[threadIdx.x / kWarpGroup];
  if (thread.issued == all.size()) all.push_back(issued);
  const emulated::Product& agreed = all[thread.issued++];
  emulated::require(agreed.a == a && agreed.b == b && agreed.n == kN &&
                        agreed.accumulate == accumulate && agreed.trans_a == kTransA &&
                        agreed.trans_b == kTransB,
                    "threads of a warpgroup issue different products", a);
  if (thread.eager) {
    emulated::multiply<T>(d, issued);
    return;
  }
  float* sums = d;
  thread.products.push_back([=] { emulated::multiply<T>(sums, issued); });
  ++thread.open;
}

// The rules of cuTensorMapEncodeTiled that depend on arguments.
template <class T>
cudaError_t encode_map(CUtensorMap& map, const char*, const void* data, int64_t rows,
                       int64_t features, int64_t stride, int box_rows) {
  const bool sizes = rows > 0 && rows <= int64_t{1} << 32 && features > 0 &&
                     features <= int64_t{1} << 32 && box_rows > 0 && box_rows <= 256;
  const bool steps = reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * 2 % 16 == 0 &&
                     stride * 2 < int64_t{1} << 40;
  if (!sizes || !steps) return cudaErrorInvalidValue;
  map = {static_cast<char*>(const_cast<void*>(data)), rows, features, stride, box_rows};
  return cudaSuccess;
}

}  // namespace dnc::cuda
