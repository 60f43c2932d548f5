// Which devices there are. SOFTGPU_DEVICE names them: "h200" (default), "a100", "t4", several with commas, or "none".
#include "driver.h"

#include <cstring>
#include <sstream>

namespace softgpu {

std::vector<Device> devices;

namespace {
// SMs, memory, shared memory (opt-in per block; per SM), blocks and threads per SM, L2, clocks, bus, whether there are
// clusters, and the ratio of f32 to f64 throughput.
const Model models[] = {
    {"h200", "NVIDIA H200", 9, 0, 132, size_t(143771) << 20, 227 << 10, 228 << 10, 32, 2048, 50 << 20, 1980000, 3201000, 6144, 1, 2},
    {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, size_t(80) << 30, 163 << 10, 164 << 10, 32, 2048, 40 << 20, 1410000, 1593000, 5120, 0, 2},
    {"t4", "Tesla T4", 7, 5, 40, size_t(15) << 30, 64 << 10, 64 << 10, 16, 1024, 4 << 20, 1590000, 5001000, 256, 0, 32},
};

size_t parse_bytes(const std::string& text) {
    char* end = nullptr;
    double number = std::strtod(text.c_str(), &end);
    switch (*end) {
        case 'K': case 'k': number *= 1 << 10; break;
        case 'M': case 'm': number *= 1 << 20; break;
        case 'G': case 'g': number *= 1 << 30; break;
    }
    return size_t(number);
}
}  // namespace

int device_attribute(const Device& device, int attribute) {
    const Model& m = *device.model;
    bool ampere = m.major >= 8, hopper = m.major >= 9;
    switch (attribute) {
        case 1: return 1024;                        // threads per block
        case 2: case 3: return 1024;                // block dimensions
        case 4: return 64;
        case 5: return 0x7fffffff;                  // grid dimensions
        case 6: case 7: return 65535;
        case 8: return 48 << 10;                    // shared memory per block
        case 9: return 64 << 10;                    // constant memory
        case 10: return 32;                         // warp
        case 11: return 0x7fffffff;                 // pitch
        case 12: return 65536;                      // registers per block
        case 13: return m.clock_khz;
        case 14: return 512;                        // texture alignment
        case 15: return 1;                          // overlap
        case 16: return m.sms;
        case 17: case 18: return 0;                 // timeout, integrated
        case 19: return 1;                          // maps host memory
        case 20: return 0;                          // compute mode
        case 30: return 512;                        // surface alignment
        case 31: return 1;                          // concurrent kernels
        case 32: return 1;                          // ECC
        case 33: return 1 + device.ordinal;         // PCI bus
        case 34: case 50: case 35: return 0;
        case 36: return m.memory_clock_khz;
        case 37: return m.bus_bits;
        case 38: return m.l2;
        case 39: return m.threads_sm;
        case 40: return 3;                          // copy engines
        case 41: return 1;                          // unified addressing
        case 51: return 32;                         // texture pitch alignment
        case 75: return m.major;
        case 76: return m.minor;
        case 78: case 79: case 80: return 1;        // stream priorities, L1 caches
        case 81: return m.shared_sm;
        case 82: return 65536;                      // registers per SM
        case 83: return 1;                          // managed memory
        case 84: case 85: case 86: return 0;
        case 87: return m.double_ratio;
        case 88: return 0;                          // pageable memory access
        case 89: return 1;                          // concurrent managed access
        case 90: return 1;                          // preemption
        case 91: return 1;
        case 92: case 93: case 94: return 0;
        case 95: return 1;                          // cooperative launch
        case 96: return 0;
        case 97: return m.shared_optin;
        case 98: return 0;
        case 99: return 1;                          // host registration
        case 100: case 101: return 0;
        case 102: return 0;                         // virtual address management: not modelled
        case 106: return m.blocks_sm;
        case 108: return ampere ? m.l2 * 3 / 4 : 0; // persisting L2
        case 109: return ampere ? 128 << 20 : 0;
        case 111: return ampere ? 1024 : 0;         // reserved shared memory per block
        case 115: return 1;                         // memory pools
        case 116: case 117: case 118: return 0;
        case 119: return 0;                         // pool handle types
        case 120: return hopper;                    // clusters
        case 122: case 123: case 124: return 0;
        case 126: return hopper ? 4 : 1;
        case 127: return 0;                         // tensor maps: not modelled
        case 129: return 1;
        case 131: case 134: return -2;              // NUMA ids: answered below as -1
        default: return attribute > 0 && attribute < 148 ? 0 : -1;
    }
}

namespace {
int set_up_devices() {
    std::stringstream names(setting("SOFTGPU_DEVICE", "h200"));
    std::string name, limit = setting("SOFTGPU_MEMORY", "");
    while (std::getline(names, name, ',')) {
        if (name == "none") continue;
        const Model* found = nullptr;
        for (const Model& model : models) if (name == model.key) found = &model;
        if (!found) {
            fault(NO_DEVICE, format("SOFTGPU_DEVICE names \"%s\": h200, a100, t4 and none are known", name.c_str()));
            return NO_DEVICE;
        }
        devices.push_back({found, int(devices.size()), limit.empty() ? found->memory : parse_bytes(limit)});
    }
    return devices.empty() ? NO_DEVICE : SUCCESS;
}
}  // namespace
}  // namespace softgpu

using namespace softgpu;

void softgpu_start_report();

API cuInit(unsigned flags) {
    ENTER;
    if (flags) return INVALID_VALUE;
    if (initialised) return SUCCESS;
    if (int error = devices.empty() ? set_up_devices() : SUCCESS) return error;
    initialised = true;
    install_handlers();
    softgpu_start_report();
    return SUCCESS;
}

API cuDriverGetVersion(int* version) {
    if (!version) return INVALID_VALUE;
    *version = 13000;
    return SUCCESS;
}

#define DEVICE(device, ordinal)                                                    \
    if (!initialised) return NOT_INITIALIZED;                                      \
    if (ordinal < 0 || ordinal >= int(devices.size())) return INVALID_DEVICE;      \
    [[maybe_unused]] Device& device = devices[ordinal]

API cuDeviceGetCount(int* count) {
    ENTER;
    if (!initialised) return NOT_INITIALIZED;
    *count = int(devices.size());
    return SUCCESS;
}
API cuDeviceGet(int* device, int ordinal) {
    ENTER;
    DEVICE(found, ordinal);
    *device = ordinal;
    return SUCCESS;
}
API cuDeviceGetName(char* name, int bytes, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    if (!name || bytes <= 0) return INVALID_VALUE;
    snprintf(name, size_t(bytes), "%s (softgpu)", device.model->name);
    return SUCCESS;
}
API cuDeviceGetAttribute(int* value, int attribute, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    int answer = device_attribute(device, attribute);
    if (!value || answer == -1) return INVALID_VALUE;
    *value = answer == -2 ? -1 : answer;
    return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t* bytes, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    *bytes = device.memory;
    return SUCCESS;
}
API cuDeviceGetUuid_v2(char* uuid, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    std::memcpy(uuid, "softgpu device ", 15);
    uuid[15] = char('0' + ordinal);
    return SUCCESS;
}
API cuDeviceGetUuid(char* uuid, int ordinal) { return cuDeviceGetUuid_v2(uuid, ordinal); }
API cuDeviceComputeCapability(int* major, int* minor, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    *major = device.model->major, *minor = device.model->minor;
    return SUCCESS;
}
API cuDeviceGetPCIBusId(char* text, int bytes, int ordinal) {
    ENTER;
    DEVICE(device, ordinal);
    snprintf(text, size_t(bytes), "0000:%02x:00.0", 1 + ordinal);
    return SUCCESS;
}
API cuDeviceCanAccessPeer(int* can, int ordinal, int peer) {
    ENTER;
    DEVICE(device, ordinal);
    DEVICE(other, peer);
    *can = ordinal != peer;
    return SUCCESS;
}
API cuDeviceGetP2PAttribute(int* value, int attribute, int ordinal, int peer) {
    ENTER;
    DEVICE(device, ordinal);
    DEVICE(other, peer);
    *value = attribute == 2;  // access
    return SUCCESS;
}
