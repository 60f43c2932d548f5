// What a test can ask the driver in software about the work it was given. Found by dlsym in libcuda.so.1; a real driver has
// none of these. Work is counted when it is asked for (a graph's nodes at each launch of the graph), not when it runs.
#pragma once
#include <stdint.h>

struct softgpu_counts {
    uint64_t launches;            // of kernels, those of graphs included
    uint64_t graph_launches;
    uint64_t gemm_calls;          // of cuBLAS; a strided batch is one call
    uint64_t gemm_flops;
    uint64_t copies_h2d, bytes_h2d;
    uint64_t copies_d2h, bytes_d2h;
    uint64_t copies_d2d, bytes_d2d;
    uint64_t memsets, bytes_set;
    uint64_t allocations, frees;  // of device memory
    uint64_t bytes_allocated;
    uint64_t host_allocations, host_frees;  // of pinned memory
    uint64_t synchronisations;    // calls in which the host waits, copies to and from pageable memory that wait among them
    uint64_t event_records, event_waits, queries;
    uint64_t live_allocations, live_bytes, peak_bytes;  // of the whole process, in every view
    uint64_t faults;                                    // likewise: errors found by softgpu
};

#ifdef __cplusplus
extern "C" {
#endif
// Fills in the counts since the last reset: those of the whole process, or those of calls by this thread only (tests that
// run side by side in one process do not disturb one another). `bytes` is sizeof(struct softgpu_counts).
// Return 0, or 1 where `bytes` is not what this driver knows.
int softgpu_counters(struct softgpu_counts* counters, uint64_t bytes);
int softgpu_thread_counters(struct softgpu_counts* counters, uint64_t bytes);
void softgpu_reset(void);
void softgpu_thread_reset(void);
// How often a kernel was launched since the last reset of the same view.
uint64_t softgpu_launches(const char* kernel);
uint64_t softgpu_thread_launches(const char* kernel);
// "forward", "reverse" or "random:SEED", from here on. Returns 0, or 1 where it is none of them. Waits for all work first.
int softgpu_schedule(const char* schedule);
// What kernels have moved since softgpu_reset, as far as they tell: those that run a whole sequence do. Bytes; acquires that found
// what they waited for; releases; tensor-core products of a warp.
struct softgpu_traffic {
    uint64_t global_in, global_out, shared_in, shared_out, acquires, releases, mma;
    uint64_t cluster_out;  // bytes stored in the shared memory of a cluster's blocks
};
int softgpu_traffic_since_reset(struct softgpu_traffic* traffic, uint64_t bytes);
// Plants a fault in the kernels that run from here on: of their releases (kind 1) the one numbered `number` from 0 is lost, or
// of their acquires (kind 2) one does not wait; of kind 3 none of them does. Kind 0 plants none. Returns how many releases (of kind
// 1) or acquires (of kind 2) there have been since the last call. Waits for all work first.
uint64_t softgpu_plant(int kind, uint64_t number);
// The last fault's text (empty: none), valid until the next call. softgpu_forgive forgets the faults, so that a test that
// provoked one does not fail its process, and makes poisoned contexts usable; it returns how many there were.
const char* softgpu_last_fault(void);
uint64_t softgpu_forgive(void);
#ifdef __cplusplus
}
#endif
