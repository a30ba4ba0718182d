// The inner half of emulator.hpp: clusters of blocks whose threads are fibers, and shared memory
// that is checked and counted.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#define DNC_DEVICE inline
#define __global__
#define __host__
#define __device__
// a mark in the address of a kernel, for `has_launch_bound`
#define __launch_bounds__(...) __attribute__((aligned(emulator::kLaunchBoundMark)))

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace emulator {

constexpr int kLanes = 32;
constexpr int kStackBytes = 64 * 1024;
constexpr int kLaunchBoundMark = 4096;
// what a Hopper GPU has
constexpr int kCapability = 90, kMultiprocessors = 132;
constexpr int kSharedPerMultiprocessor = 233472, kSharedPerBlock = 232448;

struct Index {
  unsigned x;
};
inline Index thread_index, block_index, block_size, grid_size;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};
struct Access {
  size_t offset;
  int bytes;
};

struct Barrier {
  const char* name;
  int expected;
  int arrived = 0;
  int64_t phase = 0;
};

struct Thread {
  unsigned index = 0;
  bool done = false;
  std::function<bool()> ready;  // empty while it can run
  const char* waits_for = "";
  int64_t waits_at = -1;  // an address of shared memory, or none
  ucontext_t start;
  jmp_buf place;
  bool started = false;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  std::vector<Copy> copies;
  std::vector<Access> accesses;
  int64_t shuffles = 0;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Barrier> warps;
  std::vector<std::vector<float>> exchanged;  // of each warp: two rounds of 32
  Barrier all{"__syncthreads", 0};
  std::vector<unsigned char> memory;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  unsigned index = 0;  // in the grid
  unsigned rank = 0;   // in its cluster
  size_t done = 0;     // threads that have ended
};
// the blocks of the cluster that runs, and of these the running thread's
inline std::vector<Block> cluster(1);
inline Block* current = &cluster[0];
inline Thread* running = nullptr;
inline std::function<void()> body;
// what every thread calls when it ends
inline void (*at_end)() = nullptr;
inline bool has_launch_bound = false;
inline jmp_buf scheduler;
inline std::string error;

inline Block& block() { return *current; }

// how many there were; shared by all libraries of a process
inline int64_t launches = 0;

// Wavefronts of shared memory: as they were, and the fewest for accesses of those widths.
struct Banks {
  bool counted = false;
  int64_t wavefronts = 0, least = 0;
};
inline Banks banks;

// Leave the running thread; it is not continued if `error` is set.
inline void suspend() {
  if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

inline void fail(const std::string& what) {
  if (error.empty()) {
    error = "thread " + std::to_string(thread_index.x) + " of block " +
            std::to_string(block_index.x) + ' ' + what;
  }
  suspend();
}

// Let the other threads run until `ready` holds.
inline void wait_until(std::function<bool()> ready, const char* what, int64_t at = -1) {
  if (ready()) return;
  running->ready = std::move(ready);
  running->waits_for = what;
  running->waits_at = at;
  suspend();
}

inline void arrive_and_wait(Barrier& barrier) {
  const int64_t phase = barrier.phase;
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    barrier.phase++;
  }
  wait_until([&barrier, phase] { return barrier.phase != phase; }, barrier.name);
}

// The n-th accesses of a warp's lanes are one access of the warp. Words of the same bank go one
// after another; 8 bytes go by half warps and 16 by quarters.
inline void count_banks(Thread* lanes) {
  size_t longest = 0;
  for (int lane = 0; lane < kLanes; lane++)
    longest = std::max(longest, lanes[lane].accesses.size());
  for (size_t n = 0; n < longest; n++) {
    for (int first = 0; first < kLanes;) {
      int last = first;
      std::vector<size_t> words[kLanes];
      size_t bytes = 0;
      for (; last < kLanes && bytes < 128; last++) {
        if (n >= lanes[last].accesses.size()) continue;
        const Access access = lanes[last].accesses[n];
        bytes += size_t(std::max(access.bytes, 4));
        for (size_t word = access.offset / 4; word * 4 < access.offset + size_t(access.bytes);
             word++) {
          auto& bank = words[word % kLanes];
          if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
        }
      }
      size_t most = 0;
      for (const auto& bank : words) most = std::max(most, bank.size());
      banks.wavefronts += int64_t(most);
      banks.least += bytes > 0;
      first = last;
    }
  }
  for (int lane = 0; lane < kLanes; lane++) lanes[lane].accesses.clear();
}

inline void count_all_banks() {
  for (Block& each : cluster) {
    for (size_t i = 0; banks.counted && i < each.threads.size(); i += kLanes) {
      count_banks(&each.threads[i]);
    }
  }
}

inline void sync_threads() {
  // the last to arrive, before the others go on
  if (block().all.arrived + 1 == block().all.expected) count_all_banks();
  arrive_and_wait(block().all);
}

inline void check_shared(const void* at, size_t bytes, size_t alignment) {
  const auto* from = static_cast<const unsigned char*>(at);
  if (from < block().shared || from + bytes > block().shared + block().shared_bytes) {
    fail("touches " + std::to_string(bytes) + " bytes at " + std::to_string(from - block().shared) +
         " of the " + std::to_string(block().shared_bytes) + " bytes of shared memory");
  }
  if (reinterpret_cast<uintptr_t>(at) % alignment) fail("makes a misaligned access");
  if (banks.counted) running->accesses.push_back({size_t(from - block().shared), int(bytes)});
}

inline void thread_main() {
  body();
  if (!running->copies.empty()) fail("ends before its copies to shared memory");
  if (at_end) at_end();
  running->done = true;
  current->done++;
  suspend();
}

inline void resume(Block& of, Thread& thread) {
  current = &of;
  running = &thread;
  thread_index.x = thread.index;
  block_index.x = of.index;
  thread.ready = nullptr;
  if (_setjmp(scheduler)) return;
  if (thread.started) _longjmp(thread.place, 1);
  thread.started = true;
  getcontext(&thread.start);
  thread.start.uc_stack = {thread.stack.get(), 0, kStackBytes};
  thread.start.uc_link = nullptr;
  makecontext(&thread.start, thread_main, 0);
  setcontext(&thread.start);
}

inline void prepare(Block& next, unsigned index, size_t threads, size_t shared_bytes) {
  next.index = index;
  next.done = 0;
  next.threads.resize(threads);
  next.warps.assign(threads / kLanes, Barrier{"its warp", kLanes});
  next.exchanged.assign(threads / kLanes, std::vector<float>(2 * kLanes));
  next.all = {"__syncthreads", int(threads)};
  next.shared_bytes = shared_bytes;
  next.memory.assign(shared_bytes + 128, 0xff);
  const auto address = reinterpret_cast<uintptr_t>(next.memory.data());
  next.shared = next.memory.data() + (128 - address % 128);
  for (size_t i = 0; i < threads; i++) {
    Thread& thread = next.threads[i];
    thread.index = unsigned(i);
    thread.done = thread.started = false;
    thread.ready = nullptr;
    thread.copies.clear();
    thread.accesses.clear();
    thread.shuffles = 0;
  }
}

// Run the blocks of a cluster, the first of which is number `first` of the grid.
inline void run_cluster(unsigned first, size_t threads, size_t shared_bytes) {
  for (size_t rank = 0; rank < cluster.size(); rank++) {
    cluster[rank].rank = unsigned(rank);
    prepare(cluster[rank], first + unsigned(rank), threads, shared_bytes);
  }
  // the first block of a cluster is faster than the others
  constexpr int kSlower = 4;
  for (int pass = 0, idle = 0; idle < kSlower && error.empty(); pass++) {
    bool progress = false;
    for (Block& each : cluster) {
      if (each.rank > 0 && pass % kSlower != 0) continue;
      for (Thread& thread : each.threads) {
        current = &each;
        if (thread.done || (thread.ready && !thread.ready())) continue;
        progress = true;
        resume(each, thread);
        if (!error.empty()) return;
      }
    }
    idle = progress ? 0 : idle + 1;
  }
  for (const Block& each : cluster) {
    size_t waiting = 0;
    const Thread* last = nullptr;
    for (const Thread& thread : each.threads) {
      if (thread.done) continue;
      waiting++;
      last = &thread;
    }
    if (waiting && error.empty()) {
      error = "block " + std::to_string(each.index) + ": " + std::to_string(waiting) + " of " +
              std::to_string(threads) + " threads wait for ever, the last one, thread " +
              std::to_string(last->index) + ", for " + last->waits_for;
      if (last->waits_at >= 0) error += " at " + std::to_string(last->waits_at);
    }
  }
  count_all_banks();
}

}  // namespace emulator
