// The calls that allocate and free: at once, on a stream, from pools, of the host.
#include "driver.h"

#include <cstring>

using namespace softgpu;

namespace {
struct Pool {
    int device;
    uint64_t threshold = 0, high = 0;
    int flags[4] = {0, 1, 1, 1};
};
std::map<int, Pool*> default_pools, pools;

Pool* default_pool(int device) {
    Pool*& pool = default_pools[device];
    if (!pool) {
        pool = new Pool{device};
        handles.insert(pool);
    }
    return pool;
}

// The address is known at once, as on the card; the memory is there from the stream's turn on, and for no other stream
// that does not wait for it.
int allocate_on(Context& context, Address* address, size_t bytes, void* handle) {
    Stream* stream = stream_of(context, handle);
    if (!stream) return INVALID_HANDLE;
    if (!address) return INVALID_VALUE;
    if (stream->capture) {  // memory nodes of graphs are not modelled
        invalidate(*stream->capture);
        return CAPTURE_UNSUPPORTED;
    }
    if (int error = allocate(bytes, Kind::device, context.device, false, *address)) return error;
    Address at = *address;
    return enqueue(*stream, std::make_shared<FunctionTask>(NodeKind::empty, [at](Context&) {
                       open_allocation(at);
                       return SUCCESS;
                   }));
}
}  // namespace

API cuMemAlloc_v2(Address* address, size_t bytes) {
    ENTER;
    CONTEXT(context);
    if (!address) return INVALID_VALUE;
    if (int error = forbidden_by_capture()) return error;
    return allocate(bytes, Kind::device, context->device, true, *address);
}
API cuMemAllocManaged(Address* address, size_t bytes, unsigned) {
    ENTER;
    CONTEXT(context);
    if (!address) return INVALID_VALUE;
    if (int error = forbidden_by_capture()) return error;
    return allocate(bytes, Kind::managed, context->device, true, *address);
}
API cuMemAllocPitch_v2(Address* address, size_t* pitch, size_t width, size_t height, unsigned) {
    *pitch = (width + 511) / 512 * 512;
    return cuMemAlloc_v2(address, *pitch * height);
}
// Waits for all work, as the card does: what is still to run may use the memory.
API cuMemFree_v2(Address address) {
    ENTER;
    CONTEXT(context);
    if (!address) return SUCCESS;
    if (int error = forbidden_by_capture()) return error;
    count(&softgpu_counts::frees);
    run_all(nullptr);
    if (context->error) return context->error;
    return release(address, Kind::device, "cuMemFree_v2");
}
API cuMemAllocAsync(Address* address, size_t bytes, void* stream) {
    ENTER;
    CONTEXT(context);
    return allocate_on(*context, address, bytes, stream);
}
API cuMemAllocFromPoolAsync(Address* address, size_t bytes, Pool* pool, void* stream) {
    ENTER;
    CONTEXT(context);
    if (!valid(pool)) return INVALID_HANDLE;
    return allocate_on(*context, address, bytes, stream);
}
API cuMemFreeAsync(Address address, void* handle) {
    ENTER;
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    if (!address) return SUCCESS;
    if (stream->capture) {
        invalidate(*stream->capture);
        return CAPTURE_UNSUPPORTED;
    }
    Allocation* a = find_allocation(address);
    if (!a || a->begin != address || a->kind != Kind::device || a->closing)
        return fault(INVALID_VALUE, format("cuMemFreeAsync: 0x%llx is %s%s", (unsigned long long)address, describe(address).c_str(),
                                           a && a->closing ? ", which another call frees" : ""));
    a->closing = true;
    count(&softgpu_counts::frees);
    return enqueue(*stream, std::make_shared<FunctionTask>(NodeKind::empty, [address](Context&) {
                       return release(address, Kind::device, "cuMemFreeAsync") == ILLEGAL_ADDRESS ? ILLEGAL_ADDRESS : SUCCESS;
                   }));
}

API cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    ENTER;
    CONTEXT(context);
    if (int error = forbidden_by_capture()) return error;
    Address address;
    if (int error = allocate(bytes, Kind::host, context->device, true, address)) return error;
    *pointer = reinterpret_cast<void*>(address);
    return SUCCESS;
}
API cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
API cuMemFreeHost(void* pointer) {
    ENTER;
    CONTEXT(context);
    if (int error = forbidden_by_capture()) return error;
    count(&softgpu_counts::host_frees);
    run_all(nullptr);
    return release(Address(pointer), Kind::host, "cuMemFreeHost");
}
API cuMemHostGetDevicePointer_v2(Address* address, void* pointer, unsigned) {
    ENTER;
    CONTEXT(context);
    if (!is_pinned(pointer)) return INVALID_VALUE;
    *address = Address(pointer);
    return SUCCESS;
}
API cuMemHostGetFlags(unsigned* flags, void* pointer) {
    ENTER;
    *flags = 2;
    return is_pinned(pointer) ? SUCCESS : INVALID_VALUE;
}
API cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned) {
    ENTER;
    CONTEXT(context);
    return register_host(Address(pointer), bytes);
}
API cuMemHostUnregister(void* pointer) {
    ENTER;
    CONTEXT(context);
    run_all(nullptr);
    return unregister_host(Address(pointer));
}

API cuMemGetInfo_v2(size_t* unused, size_t* total) {
    ENTER;
    CONTEXT(context);
    const Device& device = devices[size_t(context->device)];
    *unused = device.memory - device.used, *total = device.memory;
    return SUCCESS;
}
API cuMemGetAddressRange_v2(Address* begin, size_t* bytes, Address address) {
    ENTER;
    CONTEXT(context);
    Allocation* a = find_allocation(address);
    if (!a) return NOT_FOUND;
    if (begin) *begin = a->begin;
    if (bytes) *bytes = a->bytes;
    return SUCCESS;
}
API cuPointerGetAttribute(void* value, int attribute, Address address) {
    ENTER;
    CONTEXT(context);
    Allocation* a = find_allocation(address);
    if (!a || !value) return INVALID_VALUE;
    switch (attribute) {
        case 1: *static_cast<Context**>(value) = context; return SUCCESS;
        case 2: *static_cast<unsigned*>(value) = a->kind == Kind::host ? 1 : 2; return SUCCESS;
        case 3: case 4: *static_cast<Address*>(value) = address; return SUCCESS;
        case 7: *static_cast<uint64_t*>(value) = a->number; return SUCCESS;
        case 8: *static_cast<unsigned*>(value) = a->kind == Kind::managed; return SUCCESS;
        case 9: *static_cast<int*>(value) = a->device; return SUCCESS;
        case 11: *static_cast<Address*>(value) = a->begin; return SUCCESS;
        case 12: *static_cast<size_t*>(value) = a->bytes; return SUCCESS;
        case 13: *static_cast<unsigned*>(value) = 1; return SUCCESS;
        default: return NOT_SUPPORTED;
    }
}
API cuPointerSetAttribute(const void*, int, Address) { return SUCCESS; }
API cuMemAdvise_v2(Address, size_t, int, uint64_t) { return SUCCESS; }
API cuMemAdvise(Address, size_t, int, int) { return SUCCESS; }
API cuMemPrefetchAsync_v2(Address, size_t, uint64_t, unsigned, void*) { return SUCCESS; }
API cuMemPrefetchAsync(Address, size_t, int, void*) { return SUCCESS; }
API cuStreamAttachMemAsync(void*, Address, size_t, unsigned) { return SUCCESS; }

// ------------------------------------------------------------------------------------------------------------------ pools

API cuDeviceGetDefaultMemPool(Pool** pool, int device) {
    ENTER;
    if (device < 0 || device >= int(devices.size())) return INVALID_DEVICE;
    *pool = default_pool(device);
    return SUCCESS;
}
API cuDeviceGetMemPool(Pool** pool, int device) {
    ENTER;
    if (device < 0 || device >= int(devices.size())) return INVALID_DEVICE;
    *pool = pools.count(device) ? pools[device] : default_pool(device);
    return SUCCESS;
}
API cuDeviceSetMemPool(int device, Pool* pool) {
    ENTER;
    if (!valid(pool)) return INVALID_VALUE;
    pools[device] = pool;
    return SUCCESS;
}
// Of the properties only the location's device matters: type, handle types, then location (type, id).
API cuMemPoolCreate(Pool** pool, const int* properties) {
    ENTER;
    CONTEXT(context);
    if (!properties || properties[0] != 1) return INVALID_VALUE;
    *pool = new Pool{properties[3]};
    handles.insert(*pool);
    return SUCCESS;
}
API cuMemPoolDestroy(Pool* pool) {
    ENTER;
    if (!valid(pool)) return INVALID_VALUE;
    handles.erase(pool);
    return SUCCESS;
}
API cuMemPoolTrimTo(Pool* pool, size_t) {
    ENTER;
    return valid(pool) ? SUCCESS : INVALID_VALUE;
}
API cuMemPoolGetAttribute(Pool* pool, int attribute, void* value) {
    ENTER;
    if (!valid(pool) || attribute < 1 || attribute > 8) return INVALID_VALUE;
    uint64_t used = devices[size_t(pool->device)].used;
    pool->high = std::max(pool->high, used);
    if (attribute <= 3) *static_cast<int*>(value) = pool->flags[attribute];
    else *static_cast<uint64_t*>(value) = attribute == 4 ? pool->threshold : attribute == 5 || attribute == 7 ? used : pool->high;
    return SUCCESS;
}
API cuMemPoolSetAttribute(Pool* pool, int attribute, const void* value) {
    ENTER;
    if (!valid(pool) || attribute < 1 || attribute > 8) return INVALID_VALUE;
    if (attribute <= 3) pool->flags[attribute] = *static_cast<const int*>(value);
    else if (attribute == 4) pool->threshold = *static_cast<const uint64_t*>(value);
    else pool->high = 0;
    return SUCCESS;
}
API cuMemPoolSetAccess(Pool* pool, const void*, size_t) {
    ENTER;
    return valid(pool) ? SUCCESS : INVALID_VALUE;
}
