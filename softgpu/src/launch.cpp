// Launches: what the card refuses is refused, and the rest goes onto the stream.
#include "driver.h"
#include "softgpu.h"

#include <cstring>

namespace softgpu {

// A kernel has one parameter, a struct: its size is in the registry. It is read now.
int gather_parameters(Launch& launch, void** parameters, void** extra) {
    unsigned bytes = launch.function->kernel->parameter_bytes;
    const void* from = nullptr;
    if (parameters) {
        from = parameters[0];
    } else if (extra) {  // pairs of key and value: 1 the buffer, 2 its size, 0 the end
        for (; *extra; extra += 2) {
            if (Address(extra[0]) == 1) from = extra[1];
            if (Address(extra[0]) == 2 && *static_cast<size_t*>(extra[1]) != bytes) {
                return fault(INVALID_VALUE, format("%s: kernel %s takes %u bytes of parameters and is given %zu", current_call,
                                                   launch.function->kernel->name, bytes, *static_cast<size_t*>(extra[1])));
            }
        }
    }
    if (!from) return INVALID_VALUE;
    launch.parameters.assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    return SUCCESS;
}

// Says on stderr why a launch is refused: the card's error code alone leaves one guessing.
static int refuse(int error, const Launch& launch, const std::string& why) {
    std::fprintf(stderr, "softgpu: %s refuses kernel %s: %s\n", current_call, launch.function->kernel->name, why.c_str());
    return error;
}

int check_launch(Context& context, Launch& launch) {
    const Function& f = *launch.function;
    const Device& device = devices[size_t(context.device)];
    const Dim &g = launch.grid, &b = launch.block, &c = launch.cluster;
    if (f.device != context.device) return refuse(INVALID_HANDLE, launch, "its module belongs to another device");
    if (!product(g) || !product(b) || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 || b.x > 1024 || b.y > 1024 || b.z > 64)
        return refuse(INVALID_VALUE, launch, format("a grid of %ux%ux%u blocks of %ux%ux%u threads", g.x, g.y, g.z, b.x, b.y, b.z));
    uint64_t threads = product(b);
    if (threads > uint64_t(f.max_threads()))
        return refuse(INVALID_VALUE, launch, format("%llu threads in a block; at most %d", (unsigned long long)threads, f.max_threads()));
    if (launch.shared_bytes > unsigned(f.max_dynamic_shared))
        return refuse(INVALID_VALUE, launch, format("%u bytes of dynamic shared memory; the function's attribute allows %d",
                                                    launch.shared_bytes, f.max_dynamic_shared));
    if (launch.clustered) {
        uint64_t size = product(c);
        if (device.model->major < 9) return refuse(INVALID_CLUSTER_SIZE, launch, "the device has no clusters");
        if (!size || size > (f.non_portable_cluster ? 16u : 8u) || g.x % c.x || g.y % c.y || g.z % c.z)
            return refuse(INVALID_CLUSTER_SIZE, launch, format("clusters of %ux%ux%u in a grid of %ux%ux%u blocks", c.x, c.y, c.z, g.x, g.y, g.z));
        if (clusters_on_device(device, f, threads, launch.shared_bytes, unsigned(size)) == 0)
            return refuse(INVALID_CLUSTER_SIZE, launch, "no such cluster fits on the device");
    }
    if (launch.cooperative) {
        uint64_t fit = launch.clustered ? clusters_on_device(device, f, threads, launch.shared_bytes, unsigned(product(c))) * product(c)
                                        : uint64_t(blocks_per_sm(device, f, threads, launch.shared_bytes)) * unsigned(device.model->sms);
        if (product(g) > fit)
            return refuse(COOPERATIVE_LAUNCH_TOO_LARGE, launch, format("%llu blocks at once; the device holds %llu",
                                                                       (unsigned long long)product(g), (unsigned long long)fit));
    }
    return SUCCESS;
}

int KernelTask::run(Context& context) {
    if (!valid(launch.function)) return fault(INVALID_HANDLE, call + ": the function is gone");
    std::string trouble;
    int error = run_kernel(launch, trouble);
    if (!error) {
        trouble = trampled(launch.parameters.data(), launch.parameters.size());
        if (!trouble.empty()) {
            error = ILLEGAL_ADDRESS;
            trouble = format("kernel %s: ", launch.function->kernel->name) + trouble;
        }
    }
    (void)context;
    return error ? fault(error, trouble) : SUCCESS;
}
void KernelTask::tally() const { count_launch(launch.function->kernel->name); }
}  // namespace softgpu

using namespace softgpu;

// CUlaunchConfig and its attributes: an id, padding to 8, 64 bytes of value.
struct LaunchAttribute {
    int id, padding;
    union {
        char bytes[64];
        int number;
        unsigned dimensions[3];
    };
};
struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    void* stream;
    LaunchAttribute* attributes;
    unsigned count;
};

static int launch_kernel(Function* function, const LaunchConfig& config, bool cooperative, void** parameters, void** extra) {
    CONTEXT(context);
    Stream* stream = stream_of(*context, config.stream);
    if (!stream) return INVALID_HANDLE;
    if (!valid(function)) return INVALID_HANDLE;
    auto task = std::make_shared<KernelTask>();
    Launch& launch = task->launch;
    launch.function = function;
    launch.grid = {config.grid[0], config.grid[1], config.grid[2]};
    launch.block = {config.block[0], config.block[1], config.block[2]};
    launch.shared_bytes = config.shared_bytes;
    launch.cooperative = cooperative;
    for (unsigned i = 0; i < config.count; ++i) {
        const LaunchAttribute& a = config.attributes[i];
        if (a.id == 2) launch.cooperative = a.number != 0;
        if (a.id == 4) {
            launch.clustered = true;
            launch.cluster = {a.dimensions[0], a.dimensions[1], a.dimensions[2]};
        }
    }
    if (int error = gather_parameters(launch, parameters, extra)) return error;
    if (int error = check_launch(*stream->context, launch)) return error;
    return enqueue(*stream, task);
}

API cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                   void* stream, void** parameters, void** extra) {
    ENTER;
    return launch_kernel(function, {{gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, nullptr, 0}, false, parameters, extra);
}
API cuLaunchCooperativeKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                              unsigned shared_bytes, void* stream, void** parameters) {
    ENTER;
    return launch_kernel(function, {{gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, nullptr, 0}, true, parameters, nullptr);
}
API cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** parameters, void** extra) {
    ENTER;
    return config ? launch_kernel(function, *config, false, parameters, extra) : INVALID_VALUE;
}
static int cluster_query(int* answer, Function* function, const LaunchConfig* config, bool size) {
    CONTEXT(context);
    if (!valid(function)) return INVALID_HANDLE;
    if (!answer || !config) return INVALID_VALUE;
    const Device& device = devices[size_t(context->device)];
    uint64_t threads = uint64_t(config->block[0]) * config->block[1] * config->block[2];
    auto fit = [&](unsigned blocks) { return clusters_on_device(device, *function, threads, config->shared_bytes, blocks); };
    if (device.model->major < 9) return size ? (*answer = 0, SUCCESS) : INVALID_CLUSTER_SIZE;
    if (size) {
        unsigned blocks = function->non_portable_cluster ? 16 : 8;
        while (blocks > 1 && !fit(blocks)) blocks /= 2;
        *answer = int(blocks);
        return SUCCESS;
    }
    unsigned blocks = 1;
    for (unsigned i = 0; i < config->count; ++i)
        if (config->attributes[i].id == 4)
            blocks = config->attributes[i].dimensions[0] * config->attributes[i].dimensions[1] * config->attributes[i].dimensions[2];
    if (!blocks || blocks > (function->non_portable_cluster ? 16u : 8u)) return INVALID_CLUSTER_SIZE;
    *answer = fit(blocks);
    return SUCCESS;
}
API cuOccupancyMaxActiveClusters(int* clusters, Function* function, const LaunchConfig* config) {
    ENTER;
    return cluster_query(clusters, function, config, false);
}
API cuOccupancyMaxPotentialClusterSize(int* size, Function* function, const LaunchConfig* config) {
    ENTER;
    return cluster_query(size, function, config, true);
}
