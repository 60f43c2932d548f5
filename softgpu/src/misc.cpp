// Names of errors, entry points by name, and calls that have nothing to do here.
#include "driver.h"

#include <dlfcn.h>

using namespace softgpu;

namespace {
struct Name {
    int error;
    const char *name, *text;
};
const Name names[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {215, "CUDA_ERROR_UNSUPPORTED_LIMIT", "limit is not supported on this architecture"},
    {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices"},
    {FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {PEER_ACCESS_NOT_ENABLED, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {COOPERATIVE_LAUNCH_TOO_LARGE, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
    {800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
    {GRAPH_UPDATE_FAILURE, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed"},
    {INVALID_CLUSTER_SIZE, "CUDA_ERROR_INVALID_CLUSTER_SIZE", "invalid cluster size"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
const Name* find(int error) {
    for (const Name& name : names)
        if (name.error == error) return &name;
    return nullptr;
}
}  // namespace

API cuGetErrorName(int error, const char** name) {
    const Name* found = find(error);
    *name = found ? found->name : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}
API cuGetErrorString(int error, const char** text) {
    const Name* found = find(error);
    *text = found ? found->text : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}

// The newest version of a function that this library has.
API cuGetProcAddress_v2(const char* symbol, void** function, int, uint64_t, int* status) {
    Dl_info self;
    void* library = dladdr(reinterpret_cast<void*>(&cuGetErrorName), &self) ? dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
    *function = nullptr;
    for (const char* suffix : {"_v4", "_v3", "_v2", ""})
        if (library && !*function) *function = dlsym(library, (std::string(symbol) + suffix).c_str());
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
API cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}
API cuGetExportTable(const void**, const void*) { return NOT_FOUND; }

API cuProfilerStart() { return SUCCESS; }
API cuProfilerStop() { return SUCCESS; }
API cuStreamCopyAttributes(void*, void*) { return SUCCESS; }
API cuStreamGetAttribute(void*, int, void*) { return NOT_SUPPORTED; }
API cuStreamSetAttribute(void*, int, const void*) { return SUCCESS; }  // hints: access policies, priorities
API cuFlushGPUDirectRDMAWrites(int, int) { return SUCCESS; }

// Not modelled. They are here so that a caller gets an error rather than a missing symbol.
#define UNSUPPORTED(name) \
    API name() { return NOT_SUPPORTED; }
UNSUPPORTED(cuImportExternalMemory)
UNSUPPORTED(cuDestroyExternalMemory)
UNSUPPORTED(cuExternalMemoryGetMappedBuffer)
UNSUPPORTED(cuImportExternalSemaphore)
UNSUPPORTED(cuDestroyExternalSemaphore)
UNSUPPORTED(cuIpcGetMemHandle)
UNSUPPORTED(cuIpcOpenMemHandle_v2)
UNSUPPORTED(cuIpcCloseMemHandle)
UNSUPPORTED(cuIpcGetEventHandle)
UNSUPPORTED(cuIpcOpenEventHandle)
UNSUPPORTED(cuMemAddressReserve)
UNSUPPORTED(cuMemAddressFree)
UNSUPPORTED(cuMemCreate)
UNSUPPORTED(cuMemRelease)
UNSUPPORTED(cuMemMap)
UNSUPPORTED(cuMemUnmap)
UNSUPPORTED(cuMemSetAccess)
UNSUPPORTED(cuMemGetAllocationGranularity)
UNSUPPORTED(cuMulticastCreate)
UNSUPPORTED(cuTensorMapEncodeTiled)
UNSUPPORTED(cuTensorMapReplaceAddress)
UNSUPPORTED(cuArrayCreate_v2)
UNSUPPORTED(cuArrayDestroy)
UNSUPPORTED(cuMemcpy3D_v2)
UNSUPPORTED(cuMemcpy3DAsync_v2)
UNSUPPORTED(cuLinkCreate_v2)
UNSUPPORTED(cuLinkAddData_v2)
UNSUPPORTED(cuLinkComplete)
UNSUPPORTED(cuLinkDestroy)
UNSUPPORTED(cuLibraryLoadData)
UNSUPPORTED(cuLibraryGetKernel)
UNSUPPORTED(cuLibraryUnload)
UNSUPPORTED(cuKernelGetFunction)
UNSUPPORTED(cuGraphAddKernelNode_v2)
UNSUPPORTED(cuGraphAddMemcpyNode)
UNSUPPORTED(cuGraphAddMemsetNode)
UNSUPPORTED(cuGraphAddHostNode)
UNSUPPORTED(cuGraphAddEmptyNode)
UNSUPPORTED(cuGraphAddChildGraphNode)
UNSUPPORTED(cuGraphAddNode_v2)
UNSUPPORTED(cuGraphAddDependencies_v2)
UNSUPPORTED(cuGraphClone)
UNSUPPORTED(cuGraphDebugDotPrint)
UNSUPPORTED(cuStreamBeginCaptureToGraph)
UNSUPPORTED(cuStreamUpdateCaptureDependencies_v2)
UNSUPPORTED(cuStreamWaitValue32_v2)
UNSUPPORTED(cuStreamWriteValue32_v2)
UNSUPPORTED(cuStreamBatchMemOp_v2)

// What libcublas.so and libcudnn.so ask of the driver.
namespace softgpu {
static int enqueue_work(void* handle, const char* call, std::function<std::string()> run, std::function<void()> counting) {
    Call entered(call);
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    return enqueue(*stream, std::make_shared<FunctionTask>(
                                NodeKind::kernel,
                                [=, name = std::string(call)](Context&) {
                                    std::string trouble = run();
                                    return trouble.empty() ? SUCCESS : fault(ILLEGAL_ADDRESS, name + ": " + trouble);
                                },
                                counting));
}
int enqueue_gemm(void* handle, const char* call, uint64_t flops, std::function<std::string()> run) {
    return enqueue_work(handle, call, run, [=] {
        count(&softgpu_counts::gemm_calls);
        count(&softgpu_counts::gemm_flops, flops);
    });
}
int enqueue_call(void* handle, const char* call, std::function<std::string()> run) { return enqueue_work(handle, call, run, {}); }
std::string operand_trouble(const void* address, size_t bytes, bool must_be_open) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return wrong_with(Address(address), bytes, must_be_open);
}
}  // namespace softgpu
