// What Hopper's kernels ask of the hardware, one thin function each.
//
// The CPU emulator of the tests (DNC_EMULATED) has its own version of every function in this file
// that holds an asm statement; kernels use no other route to the hardware. Shared memory is
// addressed by the 32-bit addresses of its own window throughout.
//
// Sections are those of the PTX ISA 9.0.
//
// | name        | meaning                                                                        |
// |-------------|--------------------------------------------------------------------------------|
// | tile        | 64 features wide: rows of 128 bytes, swizzled, 1024-byte aligned                |
// | K-major     | the operand's rows run along the summed dimension                               |
// | MN-major    | the operand's rows run along the result's dimension ("transposed")              |
// | parity      | of an mbarrier's phase: 0 for the first phase, 1 for the second, 0 ...          |
#pragma once

#include <cstdint>
#include <type_traits>

#include "storage.cuh"

namespace dnc::cuda {

// These instructions exist in code for sm_90a alone; kernels stop the program in other code.
#if defined(DNC_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHopper = true;
#else
constexpr bool kHopper = false;
#endif

constexpr int kWarpGroup = 128;
constexpr int kTileWidth = 64;              // 16-bit features in the 128 bytes that a swizzle spans
constexpr int kRowBytes = 128;              // of a tile
constexpr int kGroupBytes = 8 * kRowBytes;  // the eight rows after which the swizzle repeats
constexpr int kMaxSharedBytes = 232448;     // 227 KiB, the most a block of sm_90 may have

// Byte offset in a tile after the 128-byte swizzle: bits 4-6, the 16-byte column, are exchanged by
// bits 7-9, the row modulo 8 (9.7.15.5.1.2 and 5.5.6, swizzling modes). Tiles are 1024-byte
// aligned, so that offsets and addresses agree in these bits.
__host__ __device__ constexpr uint32_t swizzled(uint32_t offset) {
  return offset ^ (offset >> 3 & 0x70);
}

// 64-bit description of an operand in 128-byte swizzled shared memory (9.7.15.5.1.2.2): bits 0-13
// start, 16-29 leading offset, 32-45 stride offset, all in units of 16 bytes; 49-51 base offset, 0
// because groups of eight rows start at multiples of 1024 bytes; 62-63 the swizzle, 1 for 128
// bytes. K-major: `stride` leads from eight rows to the next eight; `leading` is unused. MN-major:
// `stride` leads from eight rows (of the summed dimension) to the next eight, `leading` from 64
// features to the next 64.
__host__ __device__ constexpr uint64_t operand(uint32_t address, uint32_t leading) {
  return uint64_t{(address & 0x3ffff) >> 4} | uint64_t{leading >> 4} << 16 |
         uint64_t{kGroupBytes >> 4} << 32 | uint64_t{1} << 62;
}

// Stages of a ring of buffers, and the parity that tells their phases.
template <int kStages>
struct Cursor {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace dnc::cuda

#ifdef DNC_EMULATED
#include "emulated_hopper.hpp"
#else
#include <cuda.h>
#ifdef DNC_WATCHDOG
#include "watchdog.cuh"
#endif

namespace dnc::cuda {

DNC_DEVICE void stop_program() { asm volatile("trap;"); }

// ---- shared memory

DNC_DEVICE uint32_t dynamic_shared() {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory()));
}

DNC_DEVICE void store_shared(uint32_t address, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// Stores four 8 x 8 matrices of 16-bit numbers, of which lane l holds the numbers of row l / 4,
// columns 2 (l % 4) and the next, transposed: lane 8 m + i leads to the 16 bytes that take column i
// of matrix m (9.7.15.1.2, stmatrix).
DNC_DEVICE void store_transposed(uint32_t address, const uint32_t (&pairs)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
      : "memory");
}

DNC_DEVICE uint32_t load_shared(uint32_t address) {
  uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

// ---- clusters: blocks that run at the same time and reach each other's shared memory

DNC_DEVICE int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

DNC_DEVICE int cluster_ranks() {
  int ranks;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(ranks));
  return ranks;
}

// A barrier of all threads of the cluster (9.7.13.3).
DNC_DEVICE void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}

// ---- pairs of 16-bit numbers

template <class T>
DNC_DEVICE uint32_t pack(float low, float high) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

// ---- mbarriers (9.7.13.15): a phase completes when its arrivals and its bytes have all come

DNC_DEVICE void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine; a block barrier must follow.
DNC_DEVICE void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DNC_DEVICE void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives at the barrier of this address in another block of the cluster, or in this one.
DNC_DEVICE void barrier_arrive_at(uint32_t barrier, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

// Arrives and adds `bytes` to what the phase waits for.
DNC_DEVICE void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Waits for the phase of this parity, the current one or the one before it: a barrier that has
// completed no phase counts the one before as completed with parity 1.
#ifndef DNC_WATCHDOG
DNC_DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
#endif

// Barrier `name` (1-15) of `threads` threads of the block (9.7.13.1).
DNC_DEVICE void named_barrier(int name, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// ---- the copy engine (9.7.9.25-27), boxes of a two-dimensional tensor map

DNC_DEVICE void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Copies the box at (feature, row) to `tile`, and its bytes to the barrier's phase. What lies
// outside the tensor becomes zero and counts as bytes all the same.
DNC_DEVICE void load_box(uint32_t tile, const CUtensorMap& map, int feature, int row,
                         uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(tile),
      "l"(&map), "r"(feature), "r"(row), "r"(barrier)
      : "memory");
}

// The same for every block of the cluster whose rank's bit is in `mask`, to the tile and barrier of
// these addresses in each.
DNC_DEVICE void load_box_to(uint32_t tile, const CUtensorMap& map, int feature, int row,
                            uint32_t barrier, int mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(tile),
      "l"(&map), "r"(feature), "r"(row), "r"(barrier), "h"(uint16_t(mask))
      : "memory");
}

// Copies `tile` to the box at (feature, row); what lies outside the tensor is not written.
DNC_DEVICE void store_box(const CUtensorMap& map, int feature, int row, uint32_t tile) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(
          &map),
      "r"(feature), "r"(row), "r"(tile)
      : "memory");
}

// Ends this thread's group of stores.
DNC_DEVICE void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until this thread's stores have read shared memory.
DNC_DEVICE void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// Orders this thread's ordinary accesses to shared memory before what the copy engine and the
// tensor cores, which go through the async proxy, do after the next barrier (8.6,
// proxies; 9.7.13.4).
DNC_DEVICE void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- registers (9.7.20.5): all warps of a warpgroup, the same multiple of 8 from 24 to 256

template <int kRegisters>
DNC_DEVICE void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
DNC_DEVICE void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- tensor cores (9.7.15): asynchronous, in order, by the 128 threads of a warpgroup

// Before the first product, and whenever its accumulators were touched by other instructions.
DNC_DEVICE void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

DNC_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the newest groups are unfinished.
template <int kPending>
DNC_DEVICE void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Sums whose products are done: the compiler reads none of them before this.
template <int kSums>
DNC_DEVICE void settle(float (&sum)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

#define DNC_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define DNC_F16(d, i) DNC_F4(d, i), DNC_F4(d, i + 4), DNC_F4(d, i + 8), DNC_F4(d, i + 12)
#define DNC_LIST32                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DNC_LIST64                                                                     \
  DNC_LIST32                                                                           \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DNC_WGMMA(shape, type, list, a, b, accumulate, trans_a, trans_b)               \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " accumulate                                       \
  ", 0;\n"                                                                             \
  "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" list "}, " a ", " b \
  ", p, 1, 1, " trans_a ", " trans_b ";\n}"
#define DNC_WGMMA64(type)                                                                  \
  asm volatile(DNC_WGMMA("m64n64k16", type, DNC_LIST32, "%32", "%33", "%34", "%35", "%36") \
               : DNC_F16(d, 0), DNC_F16(d, 16)                                             \
               : "l"(a), "l"(b), "r"(int{accumulate}), "n"(int{kTransA}), "n"(int{kTransB}))
#define DNC_WGMMA128(type)                                                                  \
  asm volatile(DNC_WGMMA("m64n128k16", type, DNC_LIST64, "%64", "%65", "%66", "%67", "%68") \
               : DNC_F16(d, 0), DNC_F16(d, 16), DNC_F16(d, 32), DNC_F16(d, 48)              \
               : "l"(a), "l"(b), "r"(int{accumulate}), "n"(int{kTransA}), "n"(int{kTransB}))

// d = a b (+ d): 64 x 16 by 16 x kN, operands as described by `operand`, MN-major where kTrans.
// Thread t of the group holds, of row 16 (t / 32) + t % 32 / 4 + 8 r and columns 8 j + 2 (t % 4)
// and the next, the elements 4 j + 2 r and the next of d (9.7.15.5.1.1, register fragments).
template <class T, int kN, bool kTransA, bool kTransB>
DNC_DEVICE void product(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kN == 64 || kN == 128);
  if constexpr (kN == 64 && std::is_same_v<T, BFloat16>) {
    DNC_WGMMA64("bf16");
  } else if constexpr (kN == 64) {
    DNC_WGMMA64("f16");
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    DNC_WGMMA128("bf16");
  } else {
    DNC_WGMMA128("f16");
  }
}

#undef DNC_WGMMA128
#undef DNC_WGMMA64
#undef DNC_WGMMA
#undef DNC_LIST64
#undef DNC_LIST32
#undef DNC_F16
#undef DNC_F4

}  // namespace dnc::cuda
#endif

namespace dnc::cuda {

template <class T>
DNC_DEVICE float2 unpack(uint32_t pair) {
  return float2{widen(T{uint16_t(pair)}), widen(T{uint16_t(pair >> 16)})};
}

}  // namespace dnc::cuda
