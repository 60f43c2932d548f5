// Counts, and the report at the end of the process: SOFTGPU_REPORT names its file.
#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace softgpu;

namespace softgpu {
namespace {
// The process's since its start, the process's since the last reset, and the thread's since its.
Tally& of_process() { static auto* tally = new Tally; return *tally; }
Tally& since_reset() { static auto* tally = new Tally; return *tally; }
Tally& of_thread() { static thread_local auto* tally = new Tally; return *tally; }
uint64_t live_count = 0, live_bytes_ = 0, peak_bytes = 0;
}  // namespace

void count(uint64_t softgpu_counts::* counter, uint64_t amount) {
    for (Tally* tally : {&of_process(), &since_reset(), &of_thread()}) tally->counters.*counter += amount;
}
void count_launch(const char* kernel) {
    for (Tally* tally : {&of_process(), &since_reset(), &of_thread()}) {
        ++tally->counters.launches;
        ++tally->launches[kernel];
    }
}
void live_memory(int64_t bytes) {
    live_count += bytes > 0 ? 1 : -1;
    live_bytes_ += uint64_t(bytes);
    if (live_bytes_ > peak_bytes) peak_bytes = live_bytes_;
}

static int answer(const Tally& tally, softgpu_counts* counters, uint64_t bytes) {
    if (bytes != sizeof(softgpu_counts)) return 1;
    *counters = tally.counters;
    counters->live_allocations = live_count, counters->live_bytes = live_bytes_, counters->peak_bytes = peak_bytes;
    counters->faults = fault_count;
    return 0;
}

namespace {
void write_report(const char* file) {
    FILE* out = std::fopen(file, "w");
    if (!out) {
        std::fprintf(stderr, "softgpu: cannot write the report to %s\n", file);
        return;
    }
    softgpu_counts c;
    answer(of_process(), &c, sizeof c);
    std::fprintf(out, "{\n  \"device\": \"%s\",\n  \"schedule\": \"%s\",\n", devices.empty() ? "none" : devices[0].model->key, schedule.name().c_str());
    const std::pair<const char*, uint64_t> numbers[] = {
        {"launches", c.launches}, {"graph_launches", c.graph_launches}, {"gemm_calls", c.gemm_calls}, {"gemm_flops", c.gemm_flops},
        {"copies_h2d", c.copies_h2d}, {"bytes_h2d", c.bytes_h2d}, {"copies_d2h", c.copies_d2h}, {"bytes_d2h", c.bytes_d2h},
        {"copies_d2d", c.copies_d2d}, {"bytes_d2d", c.bytes_d2d}, {"memsets", c.memsets}, {"bytes_set", c.bytes_set},
        {"allocations", c.allocations}, {"frees", c.frees}, {"bytes_allocated", c.bytes_allocated},
        {"host_allocations", c.host_allocations}, {"host_frees", c.host_frees}, {"synchronisations", c.synchronisations},
        {"event_records", c.event_records}, {"event_waits", c.event_waits}, {"queries", c.queries},
        {"live_allocations_at_exit", c.live_allocations}, {"live_bytes_at_exit", c.live_bytes}, {"peak_bytes", c.peak_bytes}, {"faults", c.faults}};
    for (auto& [name, number] : numbers) std::fprintf(out, "  \"%s\": %llu,\n", name, (unsigned long long)number);
    std::fprintf(out, "  \"kernels\": {");
    const char* comma = "";
    for (auto& [name, launches] : of_process().launches) {
        std::fprintf(out, "%s\n    \"%s\": %llu", comma, name.c_str(), (unsigned long long)launches);
        comma = ",";
    }
    std::fprintf(out, "\n  }\n}\n");
    std::fclose(out);
}

void at_exit() {
    Call call("exit");
    for (Stream* stream : streams)  // what is left runs, so that what it frees is freed; but the host's functions may be gone
        for (Work& work : stream->queue)
            if (work.task && work.task->kind() == NodeKind::host) work.task = nullptr;
    run_all(nullptr);
    if (fault_count == 0) {
        std::string text = trampled(nullptr, 0);
        if (!text.empty()) fault(ILLEGAL_ADDRESS, text);
    }
    for (const Device& device : devices) report_leaks(device.ordinal);
    std::string file = setting("SOFTGPU_REPORT", "");
    if (!file.empty()) write_report(file.c_str());
    if (fault_count) {
        std::fprintf(stderr, "softgpu: %llu fault%s: the process fails\n", (unsigned long long)fault_count, fault_count == 1 ? "" : "s");
        std::fflush(nullptr);
        _exit(86);
    }
}
}  // namespace
}  // namespace softgpu

void softgpu_start_report() {
    std::string order = setting("SOFTGPU_SCHEDULE", "forward");
    if (!schedule.parse(order.c_str())) {
        fault(SUCCESS, format("SOFTGPU_SCHEDULE is \"%s\": forward, reverse and random:SEED are known", order.c_str()));
    }
    std::atexit(at_exit);
}

extern "C" {
SOFTGPU_API int softgpu_counters(struct softgpu_counts* counters, uint64_t bytes) {
    ENTER;
    return answer(since_reset(), counters, bytes);
}
SOFTGPU_API int softgpu_thread_counters(struct softgpu_counts* counters, uint64_t bytes) {
    ENTER;
    return answer(of_thread(), counters, bytes);
}
SOFTGPU_API void softgpu_reset(void) {
    ENTER;
    since_reset() = {};
    forget_traffic();
}
SOFTGPU_API void softgpu_thread_reset(void) {
    ENTER;
    of_thread() = {};
}
static uint64_t launches_in(const Tally& tally, const char* kernel) {
    auto found = tally.launches.find(kernel);
    return found == tally.launches.end() ? 0 : found->second;
}
SOFTGPU_API uint64_t softgpu_launches(const char* kernel) {
    ENTER;
    return launches_in(since_reset(), kernel);
}
SOFTGPU_API uint64_t softgpu_thread_launches(const char* kernel) {
    ENTER;
    return launches_in(of_thread(), kernel);
}
}
