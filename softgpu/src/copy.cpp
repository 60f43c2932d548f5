// Copies and fills. What a copy between host and device waits for and when it reads is as on the card: from pageable memory
// the bytes are taken when it is asked for, from pinned memory when the stream comes to it; to pageable memory it waits.
#include "driver.h"

#include <cstring>

using namespace softgpu;

namespace {
enum class Direction { to_device, to_host, on_device };

void tally_copy(Direction direction, uint64_t bytes) {
    using C = softgpu_counts;
    switch (direction) {
        case Direction::to_device: count(&C::copies_h2d), count(&C::bytes_h2d, bytes); break;
        case Direction::to_host: count(&C::copies_d2h), count(&C::bytes_d2h, bytes); break;
        case Direction::on_device: count(&C::copies_d2d), count(&C::bytes_d2d, bytes); break;
    }
}

struct Rows {
    Address address;
    size_t pitch;
};
bool is_driver_memory(Address address) { return in_arena(address); }

// Says what is wrong with rows of device memory.
std::string wrong_with_rows(const Rows& rows, size_t width, size_t height, bool must_be_open) {
    if (!width || !height) return {};
    return wrong_with(rows.address, rows.pitch * (height - 1) + width, must_be_open);
}

struct CopyTask : Cloned<CopyTask> {
    Rows to, from;
    size_t width, height;
    Direction direction;
    std::shared_ptr<std::vector<char>> staged;  // what pageable memory held when the copy was asked for
    NodeKind kind() const override { return NodeKind::copy; }
    void tally() const override { tally_copy(direction, width * height); }
    int run(Context&) override {
        for (const Rows* rows : {&to, &from})
            if (is_driver_memory(rows->address)) {
                std::string text = wrong_with_rows(*rows, width, height, true);
                if (!text.empty()) return fault(ILLEGAL_ADDRESS, call + ": " + text);
            }
        for (size_t row = 0; row < height; ++row)
            std::memmove(reinterpret_cast<void*>(to.address + row * to.pitch),
                         staged ? staged->data() + row * width : reinterpret_cast<const char*>(from.address + row * from.pitch), width);
        return SUCCESS;
    }
};

// `waits`: the call returns when the copy is done, whatever the memory.
int copy(Rows to, Rows from, size_t width, size_t height, Direction direction, void* handle, bool waits) {
    CONTEXT(context);
    if (waits)
        if (int error = forbidden_by_capture()) return error;
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    if (!width || !height) return SUCCESS;
    struct Side { const Rows* rows; bool device; const char* word; };
    for (const Side& side : {Side{&to, direction != Direction::to_host, "destination"}, Side{&from, direction != Direction::to_device, "source"}}) {
        if (!side.device && !is_driver_memory(side.rows->address)) {
            if (!side.rows->address) return INVALID_VALUE;
            continue;
        }
        std::string text = wrong_with_rows(*side.rows, width, height, false);
        if (!text.empty()) return fault(INVALID_VALUE, format("%s: the %s: %s", current_call, side.word, text.c_str()));
    }
    auto task = std::make_shared<CopyTask>();
    task->to = to, task->from = from, task->width = width, task->height = height, task->direction = direction;
    bool pageable_source = direction == Direction::to_device && !is_pinned(reinterpret_cast<void*>(from.address));
    bool pageable_target = direction == Direction::to_host && !is_pinned(reinterpret_cast<void*>(to.address));
    bool captured = stream->capture != nullptr;
    if (pageable_source && !captured) {
        task->staged = std::make_shared<std::vector<char>>(width * height);
        for (size_t row = 0; row < height; ++row)
            std::memcpy(task->staged->data() + row * width, reinterpret_cast<const char*>(from.address + row * from.pitch), width);
    }
    if (int error = enqueue(*stream, task)) return error;
    if (captured || !(waits || pageable_target)) return SUCCESS;
    count(&softgpu_counts::synchronisations);
    run_until(stream->last);
    return context->error;
}

int copy(Address to, Address from, size_t bytes, Direction direction, void* stream, bool waits) {
    return copy({to, bytes}, {from, bytes}, bytes, 1, direction, stream, waits);
}
int copy_any(Address to, Address from, size_t bytes, void* stream, bool waits) {
    Direction direction = is_driver_memory(from) ? (is_driver_memory(to) ? Direction::on_device : Direction::to_host) : Direction::to_device;
    return copy(to, from, bytes, direction, stream, waits);
}

int fill(Address to, size_t pitch, uint32_t value, size_t unit, size_t width, size_t height, void* handle, bool waits) {
    CONTEXT(context);
    if (waits)
        if (int error = forbidden_by_capture()) return error;
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    if (!width || !height) return SUCCESS;
    if (to % unit) return INVALID_VALUE;
    Rows rows{to, pitch};
    size_t bytes = width * unit;
    std::string text = wrong_with_rows(rows, bytes, height, false);
    if (!text.empty()) return fault(INVALID_VALUE, format("%s: %s", current_call, text.c_str()));
    std::string call = current_call;
    auto run = [=](Context&) {
        std::string text = wrong_with_rows(rows, bytes, height, true);
        if (!text.empty()) return fault(ILLEGAL_ADDRESS, call + ": " + text);
        for (size_t row = 0; row < height; ++row) {
            char* at = reinterpret_cast<char*>(to + row * pitch);
            if (unit == 1) std::memset(at, int(value), width);
            else for (size_t i = 0; i < width; ++i) std::memcpy(at + i * unit, &value, unit);
        }
        return int(SUCCESS);
    };
    auto tally = [=] {
        count(&softgpu_counts::memsets);
        count(&softgpu_counts::bytes_set, bytes * height);
    };
    if (int error = enqueue(*stream, std::make_shared<FunctionTask>(NodeKind::set, run, tally))) return error;
    if (!waits) return SUCCESS;
    run_until(stream->last);
    return context->error;
}

// The fields of CUDA_MEMCPY2D, in the order of its memory.
struct Copy2D {
    struct Side {
        size_t x, y;
        int type;
        void* host;
        Address device;
        void* array;
        size_t pitch;
        Address begin() const { return (type == 1 ? Address(host) : device) + y * pitch + x; }
    } from, to;
    size_t width, height;
};
static_assert(sizeof(Copy2D) == 128);

int copy_2d(const Copy2D* c, void* stream, bool waits) {
    if (!c || c->from.type == 3 || c->to.type == 3) return NOT_SUPPORTED;
    Copy2D copy_ = *c;
    for (Copy2D::Side* side : {&copy_.from, &copy_.to})
        if (!side->pitch) side->pitch = copy_.width;
    bool from_host = copy_.from.type == 1, to_host = copy_.to.type == 1;
    Direction direction = from_host ? Direction::to_device : to_host ? Direction::to_host : Direction::on_device;
    if (from_host && to_host) return NOT_SUPPORTED;
    return copy({copy_.to.begin(), copy_.to.pitch}, {copy_.from.begin(), copy_.from.pitch}, copy_.width, copy_.height, direction, stream, waits);
}
}  // namespace

API cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
    ENTER;
    return copy(to, Address(from), bytes, Direction::to_device, nullptr, true);
}
API cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
    ENTER;
    return copy(Address(to), from, bytes, Direction::to_host, nullptr, true);
}
// On the device a copy does not wait, even where it is not called asynchronous.
API cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    ENTER;
    return copy(to, from, bytes, Direction::on_device, nullptr, false);
}
API cuMemcpy(Address to, Address from, size_t bytes) {
    ENTER;
    return copy_any(to, from, bytes, nullptr, true);
}
API cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    ENTER;
    return copy(to, Address(from), bytes, Direction::to_device, stream, false);
}
API cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    ENTER;
    return copy(Address(to), from, bytes, Direction::to_host, stream, false);
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    ENTER;
    return copy(to, from, bytes, Direction::on_device, stream, false);
}
API cuMemcpyAsync(Address to, Address from, size_t bytes, void* stream) {
    ENTER;
    return copy_any(to, from, bytes, stream, false);
}
API cuMemcpyPeer(Address to, Context*, Address from, Context*, size_t bytes) {
    ENTER;
    return copy(to, from, bytes, Direction::on_device, nullptr, false);
}
API cuMemcpyPeerAsync(Address to, Context*, Address from, Context*, size_t bytes, void* stream) {
    ENTER;
    return copy(to, from, bytes, Direction::on_device, stream, false);
}
API cuMemcpy2D_v2(const Copy2D* c) {
    ENTER;
    return copy_2d(c, nullptr, true);
}
API cuMemcpy2DUnaligned_v2(const Copy2D* c) {
    ENTER;
    return copy_2d(c, nullptr, true);
}
API cuMemcpy2DAsync_v2(const Copy2D* c, void* stream) {
    ENTER;
    return copy_2d(c, stream, false);
}

API cuMemsetD8_v2(Address to, unsigned char value, size_t n) { ENTER; return fill(to, n, value, 1, n, 1, nullptr, false); }
API cuMemsetD16_v2(Address to, unsigned short value, size_t n) { ENTER; return fill(to, 2 * n, value, 2, n, 1, nullptr, false); }
API cuMemsetD32_v2(Address to, unsigned value, size_t n) { ENTER; return fill(to, 4 * n, value, 4, n, 1, nullptr, false); }
API cuMemsetD8Async(Address to, unsigned char value, size_t n, void* stream) { ENTER; return fill(to, n, value, 1, n, 1, stream, false); }
API cuMemsetD16Async(Address to, unsigned short value, size_t n, void* stream) { ENTER; return fill(to, 2 * n, value, 2, n, 1, stream, false); }
API cuMemsetD32Async(Address to, unsigned value, size_t n, void* stream) { ENTER; return fill(to, 4 * n, value, 4, n, 1, stream, false); }
API cuMemsetD2D8Async(Address to, size_t pitch, unsigned char value, size_t width, size_t height, void* stream) {
    ENTER;
    return fill(to, pitch, value, 1, width, height, stream, false);
}
API cuMemsetD2D32Async(Address to, size_t pitch, unsigned value, size_t width, size_t height, void* stream) {
    ENTER;
    return fill(to, pitch, value, 4, width, height, stream, false);
}
