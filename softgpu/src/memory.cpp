// Device memory: every allocation lies against an unmapped page of one large reservation, freed ones become unmapped, and no
// address is given out twice. So an access past an end or after a free is a fault of the processor, told by fault.cpp. Up to
// 255 bytes between the end of the bytes asked for and that page (an allocation begins at a multiple of 256, as on the card)
// hold a pattern that is looked at after each kernel; under AddressSanitizer they are poisoned.
#include "driver.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISONS 1
#else
#define POISONS 0
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace softgpu {

namespace {
constexpr size_t page = 4096, alignment = 256, watched = 256;
constexpr size_t reservation = size_t(4) << 40;  // addresses, not memory
constexpr int pattern = 0xff;                    // around an allocation, and in shared memory: of every float format a NaN
constexpr uint16_t fresh = 0xfff1;               // in one: a NaN too, and not what persistent kernels take for unwritten

Address arena = 0, arena_next = 0, arena_end = 0;
std::map<Address, Allocation> live, gone;
std::map<Address, size_t> registered;
uint64_t allocations_made = 0;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

bool reserve() {
    if (arena) return true;
    void* at = mmap(nullptr, reservation, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    arena = Address(at), arena_end = arena + reservation;
    arena_next = arena + page;
    return true;
}

// What the host has left: a modelled 141 GB must not bring the machine down.
size_t host_memory() {
    size_t kilobytes = 0;
    if (FILE* file = std::fopen("/proc/meminfo", "r")) {
        char line[128];
        while (std::fgets(line, sizeof line, file))
            if (std::sscanf(line, "MemAvailable: %zu kB", &kilobytes) == 1) break;
        std::fclose(file);
    }
    return kilobytes << 10;
}

const char* kind_name(Kind kind) { return kind == Kind::host ? "pinned host memory" : "device memory"; }

std::string title(const Allocation& a) {
    return format("allocation #%llu of %zu bytes of %s at 0x%llx by %s", (unsigned long long)a.number, a.bytes, kind_name(a.kind),
                  (unsigned long long)a.begin, a.made_by.c_str());
}

// The first byte of [begin, end) that no longer holds the pattern, or 0.
Address changed(Address begin, Address end) {
    static const std::string intact(watched, char(pattern));
    auto* bytes = reinterpret_cast<const unsigned char*>(begin);
    if (end - begin <= watched && !std::memcmp(bytes, intact.data(), end - begin)) return 0;
    for (Address at = begin; at < end; ++at)
        if (*reinterpret_cast<const unsigned char*>(at) != pattern) return at;
    return 0;
}

std::string trampled_around(Allocation& a) {
    if (POISONS || !a.open) return {};
    Address end = a.begin + a.bytes, last = a.pages + a.page_bytes, first = std::max(a.pages, a.begin - std::min<size_t>(a.begin, watched));
    if (Address at = changed(end, last)) {
        std::memset(reinterpret_cast<void*>(end), pattern, last - end);  // say it once
        return format("a store %zu bytes past the end of %s", size_t(at - end), title(a).c_str());
    }
    if (Address at = changed(first, a.begin)) {
        std::memset(reinterpret_cast<void*>(first), pattern, a.begin - first);
        return format("a store %zu bytes before the beginning of %s", size_t(a.begin - at), title(a).c_str());
    }
    return {};
}
}  // namespace

void poison(void* address, size_t bytes) { std::memset(address, pattern, bytes); }

bool in_arena(Address address) { return address >= arena && address < arena_end; }

int allocate(size_t bytes, Kind kind, int device, bool open, Address& address) {
    if (!bytes) return INVALID_VALUE;
    if (!reserve()) return OUT_OF_MEMORY;
    size_t rounded = round_up(bytes, alignment), pages = round_up(rounded, page);
    Device& owner = devices[size_t(device)];
    if (bytes > owner.memory || (kind != Kind::host && owner.used + rounded > owner.memory)) return OUT_OF_MEMORY;
    if (rounded > (size_t(64) << 20) && rounded > host_memory() / 10 * 9) return OUT_OF_MEMORY;
    if (arena_next + pages + page > arena_end) {
        fault(OUT_OF_MEMORY, "softgpu has given out all of its addresses: it uses none twice");
        return OUT_OF_MEMORY;
    }
    Allocation a{arena_next + pages - rounded, bytes, arena_next, pages, kind, device, false, false, ++allocations_made,
                 current_call ? current_call : "?", ""};
    arena_next += pages + page;
    address = a.begin;
    live.emplace(a.begin, std::move(a));
    if (kind != Kind::host) {
        owner.used += rounded;
        count(&::softgpu_counts::allocations);
        count(&::softgpu_counts::bytes_allocated, bytes);
        live_memory(int64_t(bytes));
    } else {
        count(&::softgpu_counts::host_allocations);
    }
    if (open) open_allocation(address);
    return SUCCESS;
}

void open_allocation(Address address) {
    auto found = live.find(address);
    if (found == live.end() || found->second.open) return;
    Allocation& a = found->second;
    mprotect(reinterpret_cast<void*>(a.pages), a.page_bytes, PROT_READ | PROT_WRITE);
#if defined(MADV_POPULATE_WRITE)
    madvise(reinterpret_cast<void*>(a.pages), a.page_bytes, MADV_POPULATE_WRITE);  // all pages in one call: faster
#endif
    std::memset(reinterpret_cast<void*>(a.pages), pattern, a.page_bytes);
    std::fill_n(reinterpret_cast<uint16_t*>(a.begin), a.bytes / 2, fresh);
    a.open = true;
    ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(a.pages), a.page_bytes);
    ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(a.begin), a.bytes);
}

int release(Address address, Kind kind, const char* running) {
    auto found = live.find(address);
    if (found == live.end() || (found->second.kind == Kind::host) != (kind == Kind::host)) {
        auto before = gone.find(address);
        return fault(INVALID_VALUE, before != gone.end()
                                        ? format("%s: frees %s for the second time: %s freed it", running,
                                                 title(before->second).c_str(), before->second.freed_by.c_str())
                                        : format("%s: 0x%llx is not the beginning of an allocation: %s", running,
                                                 (unsigned long long)address, describe(address).c_str()));
    }
    Allocation a = std::move(found->second);
    live.erase(found);
    std::string text = trampled_around(a);
    ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(a.pages), a.page_bytes);
    // A new mapping, not a protection: it gives the pages and their page tables back.
    mmap(reinterpret_cast<void*>(a.pages), a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (kind != Kind::host) {
        devices[size_t(a.device)].used -= round_up(a.bytes, alignment);
        live_memory(-int64_t(a.bytes));
    }
    a.freed_by = running;
    gone.emplace(a.begin, std::move(a));
    if (gone.size() > 200000) gone.erase(gone.begin());
    return text.empty() ? SUCCESS : fault(ILLEGAL_ADDRESS, std::string(running) + " finds " + text);
}

static Allocation* at_or_before(std::map<Address, Allocation>& in, Address address) {
    auto after = in.upper_bound(address);
    return after == in.begin() ? nullptr : &std::prev(after)->second;
}

// An address in the page of guard behind an allocation counts as its end.
Allocation* find_allocation(Address address) {
    Allocation* a = at_or_before(live, address);
    return a && address < a->pages + a->page_bytes ? a : nullptr;
}

bool is_pinned(const void* pointer) {
    Address address = Address(pointer);
    if (Allocation* a = find_allocation(address)) return a->kind != Kind::device;
    auto after = registered.upper_bound(address);
    return after != registered.begin() && address < std::prev(after)->first + std::prev(after)->second;
}

int register_host(Address address, size_t bytes) {
    if (registered.count(address)) return HOST_MEMORY_ALREADY_REGISTERED;
    registered[address] = bytes;
    return SUCCESS;
}
int unregister_host(Address address) { return registered.erase(address) ? SUCCESS : HOST_MEMORY_NOT_REGISTERED; }

std::string describe(Address address) {
    if (!in_arena(address)) return address < page ? "a null pointer" : "no memory that the driver gave out";
    Allocation* best = at_or_before(live, address);
    auto distance = [&](const Allocation& a) {
        return address < a.begin ? a.begin - address : address >= a.begin + a.bytes ? address - a.begin - a.bytes + 1 : 0;
    };
    for (Allocation* other : {at_or_before(gone, address), [&]() -> Allocation* {
             auto after = live.upper_bound(address);
             return after == live.end() ? nullptr : &after->second;
         }()})
        if (other && (!best || distance(*other) < distance(*best))) best = other;
    if (!best) return "no allocation near";
    std::string where = address < best->begin ? format("%zu bytes before ", size_t(best->begin - address))
                        : address >= best->begin + best->bytes ? format("%zu bytes past the end of ", size_t(address - best->begin - best->bytes))
                                                               : format("%zu bytes into ", size_t(address - best->begin));
    where += title(*best);
    if (!best->freed_by.empty()) where += ", freed by " + best->freed_by;
    else if (!best->open) where += ", whose stream has not come to the allocation: nothing orders this work behind it";
    return where;
}

std::string wrong_with(Address address, size_t bytes, bool must_be_open) {
    if (!bytes) return {};
    Allocation* a = find_allocation(address);
    if (!a || address < a->begin || address >= a->begin + a->bytes)
        return format("0x%llx is %s", (unsigned long long)address, describe(address).c_str());
    if (bytes > a->begin + a->bytes - address)
        return format("%zu bytes from 0x%llx on run %zu bytes past the end of %s", bytes, (unsigned long long)address,
                      size_t(address + bytes - a->begin - a->bytes), title(*a).c_str());
    if (must_be_open && !a->open) return format("0x%llx is %s", (unsigned long long)address, describe(address).c_str());
    return {};
}

std::string trampled(const void* words, size_t bytes) {
    if (POISONS) return {};
    if (!words) {
        for (auto& [address, a] : live) {
            std::string text = trampled_around(a);
            if (!text.empty()) return text;
        }
        return {};
    }
    for (size_t at = 0; at + sizeof(Address) <= bytes; at += sizeof(Address)) {
        Address address;
        std::memcpy(&address, static_cast<const char*>(words) + at, sizeof address);
        if (!in_arena(address)) continue;
        // The allocation that the word points into, or just before.
        auto after = live.upper_bound(address);
        for (Allocation* a : {find_allocation(address), after != live.end() && after->second.pages <= address ? &after->second : nullptr}) {
            std::string text = a ? trampled_around(*a) : std::string();
            if (!text.empty()) return text;
        }
    }
    return {};
}

void report_leaks(int device) {
    std::string how = setting("SOFTGPU_LEAKS", "report");
    if (how == "ignore") return;
    size_t count = 0, bytes = 0;
    std::map<std::string, std::pair<size_t, size_t>> by;
    for (auto& [address, a] : live)
        if (a.device == device && a.kind == Kind::device) {
            ++count, bytes += a.bytes;
            auto& [n, sum] = by[a.made_by];
            ++n, sum += a.bytes;
        }
    if (!count) return;
    std::string text = format("leak: %zu bytes in %zu allocations were never freed:", bytes, count);
    for (auto& [call, sums] : by) text += format(" %zu bytes in %zu by %s;", sums.second, sums.first, call.c_str());
    text.pop_back();
    if (how == "error") fault(SUCCESS, text);
    else std::fprintf(stderr, "softgpu: %s\n", text.c_str());
}

void release_all(int device) {
    std::vector<Address> theirs;
    for (auto& [address, a] : live)
        if (a.device == device && a.kind != Kind::host) theirs.push_back(address);
    for (Address address : theirs) release(address, Kind::device, "the end of its context");
}
}  // namespace softgpu
