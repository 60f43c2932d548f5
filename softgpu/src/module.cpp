// Kernels: those that were compiled for softgpu register themselves when their shared object is loaded. A module may be any
// bytes at all: what it holds is that registry. Then functions, their attributes, and how many blocks fit on the device.
#include "driver.h"
#include "softgpu.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include <dlfcn.h>

namespace softgpu {

namespace {
// Made on first use: registrations run before this file's own initialisers may.
std::map<std::string, Kernel>& registry() {
    static auto* kernels = new std::map<std::string, Kernel>;
    return *kernels;
}

// Loads the objects of kernels: libgatefold_kernels.so beside this library, and those that SOFTGPU_KERNELS names.
void load_kernels() {
    static bool loaded = false;
    if (loaded) return;
    loaded = true;
    std::vector<std::string> files;
    Dl_info self;
    if (dladdr(reinterpret_cast<void*>(&find_kernel), &self)) {
        std::string path = self.dli_fname;
        files.push_back(path.substr(0, path.rfind('/') + 1) + "libgatefold_kernels.so");
    }
    std::stringstream named(setting("SOFTGPU_KERNELS", ""));
    for (std::string file; std::getline(named, file, ':');) files.push_back(file);
    for (size_t i = 0; i < files.size(); ++i)
        if (!dlopen(files[i].c_str(), RTLD_NOW | RTLD_LOCAL) && (i > 0 || registry().empty()))
            std::fprintf(stderr, "softgpu: no kernels from %s: %s\n", files[i].c_str(), dlerror());
}
}  // namespace

void register_kernel(const Kernel& kernel) {
    if (!registry().emplace(kernel.name, kernel).second)
        std::fprintf(stderr, "softgpu: two kernels are called %s; the first one counts\n", kernel.name);
}
const Kernel* find_kernel(const std::string& name) {
    load_kernels();
    auto found = registry().find(name);
    return found == registry().end() ? nullptr : &found->second;
}

int Function::max_threads() const { return kernel->max_threads ? std::min(int(kernel->max_threads), 1024) : 1024; }

// By threads, shared memory and the number of blocks. Registers are not modelled: nvcc is not asked.
int blocks_per_sm(const Device& device, const Function& function, uint64_t threads, size_t shared_bytes) {
    const Model& m = *device.model;
    if (!threads || threads > uint64_t(function.max_threads()) || shared_bytes > size_t(m.shared_optin)) return 0;
    uint64_t warps = (threads + 31) / 32;
    uint64_t reserved = m.major >= 8 ? 1024 : 0;
    uint64_t shared = shared_bytes + reserved ? (shared_bytes + reserved + 127) / 128 * 128 : 1;
    return int(std::min({uint64_t(m.threads_sm) / 32 / warps, uint64_t(m.shared_sm) / shared, uint64_t(m.blocks_sm)}));
}

// A cluster lies within one group of SMs. They are not all of one size: an H200, the one model with clusters, said that it has room for 66 clusters of
// two blocks that have an SM each, for 30 of four, 15 of eight and 7 of sixteen.
int clusters_on_device(const Device& device, const Function& function, uint64_t threads, size_t shared_bytes, unsigned size) {
    static const int hopper[] = {18, 18, 18, 18, 18, 16, 16, 10};
    if (!device.model->clusters || !size || size > unsigned(std::atoi(setting("SOFTGPU_CLUSTER", "16").c_str()))) return 0;
    const int each = blocks_per_sm(device, function, threads, shared_bytes);
    int all = 0;
    for (int sms : hopper) all += each * sms / int(size);
    return all;
}
}  // namespace softgpu

using namespace softgpu;

static int load(Module** module, std::string origin) {
    CONTEXT(context);
    if (!module) return INVALID_VALUE;
    *module = new Module{std::move(origin)};
    handles.insert(*module);
    return SUCCESS;
}
API cuModuleLoadData(Module** module, const void* image) {
    ENTER;
    return image ? load(module, "an image") : INVALID_VALUE;
}
API cuModuleLoadDataEx(Module** module, const void* image, unsigned, int*, void**) {
    ENTER;
    return image ? load(module, "an image") : INVALID_VALUE;
}
API cuModuleLoadFatBinary(Module** module, const void* image) {
    ENTER;
    return image ? load(module, "a fat binary") : INVALID_VALUE;
}
API cuModuleLoad(Module** module, const char* file) {
    ENTER;
    FILE* there = file ? std::fopen(file, "rb") : nullptr;
    if (!there) return FILE_NOT_FOUND;
    std::fclose(there);
    return load(module, file);
}
API cuModuleUnload(Module* module) {
    ENTER;
    CONTEXT(context);
    if (!valid(module)) return INVALID_HANDLE;
    run_all(nullptr);  // its kernels may still be waiting
    handles.erase(module);
    delete module;
    return SUCCESS;
}
API cuModuleGetLoadingMode(int* mode) {
    *mode = 1;
    return SUCCESS;
}
API cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER;
    CONTEXT(context);
    if (!valid(module)) return INVALID_HANDLE;
    if (!function || !name) return INVALID_VALUE;
    const Kernel* kernel = find_kernel(name);
    if (!kernel) return NOT_FOUND;
    *function = new Function{kernel, module, 48 << 10, -1, false, context->device};
    handles.insert(*function);
    return SUCCESS;
}
API cuModuleGetGlobal_v2(Address*, size_t*, Module*, const char*) { return NOT_FOUND; }
API cuFuncGetModule(Module** module, Function* function) {
    ENTER;
    if (!valid(function)) return INVALID_HANDLE;
    *module = function->module;
    return SUCCESS;
}
API cuFuncGetName(const char** name, Function* function) {
    ENTER;
    if (!valid(function)) return INVALID_HANDLE;
    *name = function->kernel->name;
    return SUCCESS;
}
API cuFuncGetParamInfo(Function* function, size_t index, size_t* offset, size_t* bytes) {
    ENTER;
    if (!valid(function)) return INVALID_HANDLE;
    if (index) return INVALID_VALUE;
    *offset = 0;
    if (bytes) *bytes = function->kernel->parameter_bytes;
    return SUCCESS;
}
API cuFuncIsLoaded(int* state, Function*) {
    *state = 1;
    return SUCCESS;
}
API cuFuncLoad(Function*) { return SUCCESS; }

API cuFuncGetAttribute(int* value, int attribute, Function* function) {
    ENTER;
    CONTEXT(context);
    if (!valid(function)) return INVALID_HANDLE;
    const Model& m = *devices[size_t(function->device)].model;
    switch (attribute) {
        case 0: *value = function->max_threads(); return SUCCESS;
        case 1: case 2: case 3: case 7: *value = 0; return SUCCESS;  // static shared, constant, local memory
        case 4: *value = 32; return SUCCESS;                         // registers: not modelled
        case 5: case 6: *value = m.major * 10 + m.minor; return SUCCESS;
        case 8: *value = function->max_dynamic_shared; return SUCCESS;
        case 9: *value = function->carveout; return SUCCESS;
        case 10: case 11: case 12: case 13: case 15: *value = 0; return SUCCESS;
        case 14: *value = function->non_portable_cluster; return SUCCESS;
        default: return INVALID_VALUE;
    }
}
API cuFuncSetAttribute(Function* function, int attribute, int value) {
    ENTER;
    CONTEXT(context);
    if (!valid(function)) return INVALID_HANDLE;
    const Device& device = devices[size_t(function->device)];
    switch (attribute) {
        case 8:
            if (value < 0 || value > device.model->shared_optin) return INVALID_VALUE;
            function->max_dynamic_shared = value;
            return SUCCESS;
        case 9:
            if (value < -1 || value > 100) return INVALID_VALUE;
            function->carveout = value;
            return SUCCESS;
        case 14:
            if (device.model->major < 9) return INVALID_VALUE;
            function->non_portable_cluster = value != 0;
            return SUCCESS;
        case 15: return device.model->major < 9 ? INVALID_VALUE : SUCCESS;
        default: return INVALID_VALUE;
    }
}
API cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }
API cuFuncSetSharedMemConfig(Function*, int) { return SUCCESS; }

// -------------------------------------------------------------------------------------------------------------- occupancy

#define FUNCTION(function, device)                      \
    CONTEXT(context);                                   \
    if (!valid(function)) return INVALID_HANDLE;        \
    [[maybe_unused]] const Device& device = devices[size_t(function->device)]

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads, size_t shared_bytes) {
    ENTER;
    FUNCTION(function, device);
    if (!blocks || threads <= 0) return INVALID_VALUE;
    *blocks = blocks_per_sm(device, *function, uint64_t(threads), shared_bytes);
    return SUCCESS;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, Function* function, int threads, size_t bytes, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, bytes);
}
API cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, Function* function, int blocks, int threads) {
    ENTER;
    FUNCTION(function, device);
    if (!bytes || blocks <= 0 || threads <= 0) return INVALID_VALUE;
    size_t best = 0;
    for (size_t size = 0; size <= size_t(device.model->shared_optin); size += 128)
        if (blocks_per_sm(device, *function, uint64_t(threads), size) >= blocks) best = size;
    *bytes = best;
    return SUCCESS;
}
API cuOccupancyMaxPotentialBlockSize(int* grid, int* block, Function* function, size_t (*shared)(int), size_t bytes, int limit) {
    ENTER;
    FUNCTION(function, device);
    int most = function->max_threads(), best = 0, best_threads = 0, best_blocks = 0;
    if (limit > 0) most = std::min(most, limit);
    for (int threads = most / 32 * 32; threads >= 32; threads -= 32) {
        int blocks = blocks_per_sm(device, *function, uint64_t(threads), shared ? shared(threads) : bytes);
        if (blocks * threads > best) best = blocks * threads, best_threads = threads, best_blocks = blocks;
    }
    *grid = best_blocks * device.model->sms, *block = best_threads;
    return SUCCESS;
}
API cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, Function* function, size_t (*shared)(int), size_t bytes, int limit, unsigned) {
    return cuOccupancyMaxPotentialBlockSize(grid, block, function, shared, bytes, limit);
}
