// Contexts, the settings, and the lock.
#include "driver.h"

#include <cstdlib>
#include <cstring>

namespace softgpu {

std::recursive_mutex lock;
thread_local const char* current_call = nullptr;
bool initialised = false;
std::unordered_set<const void*> handles;
Schedule schedule;

namespace {
thread_local std::vector<Context*> current;
std::map<int, Context*> primaries;

Context* make_context(int device, bool primary) {
    auto* context = new Context{device, primary};
    context->legacy = new_stream(*context, true);
    context->per_thread = new_stream(*context, true);
    context->limits = {{0, 1024}, {1, 1 << 20}, {2, 8 << 20}, {3, 2}, {4, 2048}, {5, 64}, {6, 0}, {7, 0}};
    handles.insert(context);
    return context;
}

void destroy_context(Context* context) {
    if (context->error == SUCCESS) run_all(context);
    if (context->error == SUCCESS) {
        std::string text = trampled(nullptr, 0);
        if (!text.empty()) fault(ILLEGAL_ADDRESS, text);
    }
    report_leaks(context->device);
    if (context->primary) release_all(context->device);
    for (Stream* stream : std::vector<Stream*>(streams))
        if (stream->context == context) stream->queue.clear(), stream->destroyed = true;
    handles.erase(context);
    // The object stays: handles that outlive it must find an answer.
}
}  // namespace

std::string setting(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

bool Schedule::parse(const char* text) {
    if (!std::strcmp(text, "forward")) order = Order::forward;
    else if (!std::strcmp(text, "reverse")) order = Order::reverse;
    else if (!std::strncmp(text, "random", 6) && (!text[6] || text[6] == ':')) {
        order = Order::random;
        seed = text[6] ? std::strtoull(text + 7, nullptr, 10) : 0;
    } else return false;
    state = seed * 0x9e3779b97f4a7c15 + 1;
    return true;
}
std::string Schedule::name() const {
    if (order == Order::random) return "random:" + std::to_string(seed);
    return order == Order::forward ? "forward" : "reverse";
}

Context* current_context() { return current.empty() ? nullptr : current.back(); }

int usable(Context*& context) {
    if (!initialised) return NOT_INITIALIZED;
    context = current_context();
    if (!context || !valid(context)) return INVALID_CONTEXT;
    return context->error;
}
}  // namespace softgpu

using namespace softgpu;

static bool known(int device) { return device >= 0 && device < int(devices.size()); }

API cuDevicePrimaryCtxRetain(Context** context, int device) {
    ENTER;
    if (!initialised) return NOT_INITIALIZED;
    if (!known(device)) return INVALID_DEVICE;
    Context*& primary = primaries[device];
    if (!primary) primary = make_context(device, true);
    primary->references++;
    *context = primary;
    return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER;
    if (!known(device)) return INVALID_DEVICE;
    Context*& primary = primaries[device];
    if (!primary) return INVALID_CONTEXT;
    if (--primary->references == 0) {
        destroy_context(primary);
        primary = nullptr;
    }
    return SUCCESS;
}
API cuDevicePrimaryCtxReset_v2(int device) {
    ENTER;
    if (!known(device)) return INVALID_DEVICE;
    if (Context*& primary = primaries[device]) {
        destroy_context(primary);
        primary = nullptr;
    }
    return SUCCESS;
}
API cuDevicePrimaryCtxSetFlags_v2(int device, unsigned) { return known(device) ? SUCCESS : INVALID_DEVICE; }
API cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
    ENTER;
    if (!known(device)) return INVALID_DEVICE;
    *flags = 0, *active = primaries.count(device) && primaries[device];
    return SUCCESS;
}
API cuCtxCreate_v4(Context** context, void*, unsigned flags, int device) {
    ENTER;
    if (!initialised) return NOT_INITIALIZED;
    if (!known(device)) return INVALID_DEVICE;
    *context = make_context(device, false);
    (*context)->flags = flags;
    current.push_back(*context);
    return SUCCESS;
}
API cuCtxCreate_v3(Context** context, void*, int, unsigned flags, int device) {
    return cuCtxCreate_v4(context, nullptr, flags, device);
}
API cuCtxCreate_v2(Context** context, unsigned flags, int device) { return cuCtxCreate_v4(context, nullptr, flags, device); }
API cuCtxDestroy_v2(Context* context) {
    ENTER;
    if (!valid(context) || context->primary) return INVALID_CONTEXT;
    destroy_context(context);
    if (current_context() == context) current.pop_back();
    return SUCCESS;
}
API cuCtxSetCurrent(Context* context) {
    ENTER;
    if (!initialised) return NOT_INITIALIZED;
    if (context && !valid(context)) return INVALID_CONTEXT;
    if (!current.empty()) current.pop_back();
    if (context) current.push_back(context);
    return SUCCESS;
}
API cuCtxGetCurrent(Context** context) {
    ENTER;
    if (!initialised) return NOT_INITIALIZED;
    *context = current_context();
    return SUCCESS;
}
API cuCtxPushCurrent_v2(Context* context) {
    ENTER;
    if (!valid(context)) return INVALID_CONTEXT;
    current.push_back(context);
    return SUCCESS;
}
API cuCtxPopCurrent_v2(Context** context) {
    ENTER;
    if (current.empty()) return INVALID_CONTEXT;
    if (context) *context = current.back();
    current.pop_back();
    return SUCCESS;
}
API cuCtxGetDevice(int* device) {
    ENTER;
    Context* context = current_context();
    if (!context) return INVALID_CONTEXT;
    *device = context->device;
    return SUCCESS;
}
API cuCtxGetId(Context* context, uint64_t* id) {
    ENTER;
    *id = uint64_t(context ? context : current_context());
    return SUCCESS;
}
API cuCtxGetApiVersion(Context*, unsigned* version) {
    *version = 13000;
    return SUCCESS;
}
API cuCtxSynchronize() {
    ENTER;
    CONTEXT(context);
    if (int error = forbidden_by_captures_of(*context)) return error;
    count(&softgpu_counts::synchronisations);
    run_all(context);
    if (context->error == SUCCESS) {
        std::string text = trampled(nullptr, 0);
        if (!text.empty()) context->error = fault(ILLEGAL_ADDRESS, text);
    }
    return context->error;
}
API cuCtxSetFlags(unsigned flags) {
    ENTER;
    CONTEXT(context);
    context->flags = flags;
    return SUCCESS;
}
API cuCtxGetFlags(unsigned* flags) {
    ENTER;
    CONTEXT(context);
    *flags = context->flags;
    return SUCCESS;
}
API cuCtxGetLimit(size_t* value, int limit) {
    ENTER;
    CONTEXT(context);
    if (!context->limits.count(limit)) return 215;
    *value = context->limits[limit];
    return SUCCESS;
}
API cuCtxSetLimit(int limit, size_t value) {
    ENTER;
    CONTEXT(context);
    if (!context->limits.count(limit)) return 215;
    context->limits[limit] = value;
    return SUCCESS;
}
API cuCtxGetCacheConfig(int* config) {
    *config = 0;
    return SUCCESS;
}
API cuCtxSetCacheConfig(int) { return SUCCESS; }
API cuCtxResetPersistingL2Cache() { return SUCCESS; }
API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return SUCCESS;
}
// Peer access is there for every pair of devices, and is not checked.
API cuCtxEnablePeerAccess(Context*, unsigned) { return SUCCESS; }
API cuCtxDisablePeerAccess(Context*) { return SUCCESS; }

extern "C" SOFTGPU_API uint64_t softgpu_forgive(void) {
    ENTER;
    for (const auto& [device, context] : primaries) if (context) context->error = SUCCESS;
    uint64_t before = fault_count;
    fault_count = 0;
    return before;
}
extern "C" SOFTGPU_API int softgpu_schedule(const char* text) {
    ENTER;
    run_all(nullptr);
    return text && schedule.parse(text) ? 0 : 1;
}
