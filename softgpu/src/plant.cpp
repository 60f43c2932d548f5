// Faults that a test plants, and what kernels tell of what they move.
#include "driver.h"
#include "softgpu.h"
#include "softgpu_counters.h"

namespace softgpu {
namespace {
int planted = 0;
uint64_t planted_number = 0, planted_seen = 0;
softgpu_traffic traffic{};

bool planted_now(int kind) { return planted == kind && planted_seen++ == planted_number; }
}  // namespace

bool release_is_lost() { return planted_now(1); }
bool acquire_is_hasty() { return planted_now(2) || planted == 3; }
void moved(Moved what, uint64_t amount) { reinterpret_cast<uint64_t*>(&traffic)[unsigned(what)] += amount; }
void forget_traffic() { traffic = {}; }
}  // namespace softgpu

using namespace softgpu;

extern "C" SOFTGPU_API uint64_t softgpu_plant(int kind, uint64_t number) {
    ENTER;
    run_all(nullptr);
    uint64_t seen = planted_seen;
    planted = kind, planted_number = number, planted_seen = 0;
    return seen;
}
extern "C" SOFTGPU_API int softgpu_traffic_since_reset(softgpu_traffic* to, uint64_t bytes) {
    ENTER;
    if (bytes != sizeof(softgpu_traffic)) return 1;
    run_all(nullptr);
    *to = traffic;
    return 0;
}
