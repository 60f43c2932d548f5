// What was found is said on stderr, counted, and makes the process fail at its end. A fault of the processor inside a kernel
// becomes the launch's error: the kernel's fibers are abandoned and the host goes on.
#include "engine.h"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace softgpu {

uint64_t fault_count = 0;
namespace {
std::string last_fault;
struct sigaction before[65];
constexpr size_t signal_stack = 256 << 10;

// Each thread that runs kernels needs a stack for the handler: a fiber's own may be what overflowed.
void give_signal_stack() {
    static thread_local bool given = false;
    if (given) return;
    given = true;
    void* at = mmap(nullptr, signal_stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return;
    stack_t stack{};
    stack.ss_sp = at, stack.ss_size = signal_stack;
    sigaltstack(&stack, nullptr);
}

bool on_stack(Address address) {
    Address top = Address(stack_of_fault()) + 4096;
    return address < top && address + (4 << 20) > top;
}

void handler(int number, siginfo_t* info, void* context) {
    Address address = Address(info->si_addr);
#if defined(__SANITIZE_ADDRESS__)
    // AddressSanitizer is telling an error, holds its locks, and has met the end of the fiber's stack: going on would hang.
    if (__asan_report_present()) {
        if (in_kernel() && engine.self) std::fprintf(stderr, "softgpu: %s: the error above\n", place(*engine.self).c_str());
        _exit(86);
    }
#endif
    if (!in_kernel() || !engine.self) {
        if (number == SIGSEGV && in_arena(address))
            std::fprintf(stderr, "softgpu: the host touches device memory: 0x%llx is %s\n", (unsigned long long)address, describe(address).c_str());
        sigaction(number, &before[number], nullptr);  // who had it before may have it: the instruction faults again
        return;
    }
    std::string what;
    engine.error = ILLEGAL_ADDRESS;
    const Region& shared = engine.self->block->shared;
    if (number == SIGFPE) {
        engine.error = LAUNCH_FAILED;
        what = "an integer division by zero, whose result on a GPU is undefined";
    } else if (address + 65536 > Address(shared.pages) && address < Address(shared.pages) + shared.page_bytes + 65536) {
        what = format("an access %s its %zu bytes of dynamic shared memory",
                      address < Address(shared.begin) ? "before" : format("%zu bytes past the end of", size_t(address - Address(shared.begin) - shared.bytes)).c_str(),
                      shared.bytes);
    } else if (on_stack(address)) {
        what = "its stack overflows: softgpu gives a thread 64 KB (512 KB in the sanitized build)";
    } else if (info->si_code == SI_KERNEL || !address) {
        what = address ? "a wild address" : "a null or wild pointer";
    } else {
        what = format("an access to 0x%llx: %s", (unsigned long long)address, describe(address).c_str());
    }
    engine.trouble = place(*engine.self) + ": " + what;
    // Returns not to the instruction that faulted but to land_after_fault, on a fresh end of the fiber's stack.
    auto* where = static_cast<ucontext_t*>(context);
    Address stack = Address(stack_of_fault()) & ~Address(15);
    where->uc_mcontext.gregs[REG_RSP] = greg_t(stack - 8);
    where->uc_mcontext.gregs[REG_RIP] = greg_t(Address(&land_after_fault));
}

#if defined(__SANITIZE_ADDRESS__)
// AddressSanitizer ends the process: whose work it was is said first.
void sanitizer_report(const char*) {
    if (in_kernel() && engine.self) std::fprintf(stderr, "softgpu: %s: the error above\n", place(*engine.self).c_str());
}
#endif
}  // namespace

std::string format(const char* text, ...) {
    char buffer[1024];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(buffer, sizeof buffer, text, arguments);
    va_end(arguments);
    return buffer;
}

int fault(int error, const std::string& text) {
    ++fault_count;
    last_fault = text;
    std::fprintf(stderr, "softgpu: %s\n", text.c_str());
    if (setting("SOFTGPU_FAULT", "error") == "abort") {
        std::fflush(nullptr);
        std::abort();
    }
    return error;
}

void install_handlers() {
    struct sigaction action{};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int number : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(number, &action, &before[number]);
#if defined(__SANITIZE_ADDRESS__)
    __asan_set_error_report_callback(sanitizer_report);
#endif
}

void prepare_thread_for_faults() { give_signal_stack(); }
}  // namespace softgpu

extern "C" SOFTGPU_API const char* softgpu_last_fault(void) {
    ENTER;
    static std::string copy;
    copy = softgpu::last_fault;
    return copy.c_str();
}
