// Streams. Work waits in its stream until a call needs it done; then it runs, on the caller's thread, in the order that the
// schedule draws. "forward" runs the least that is needed and leaves other streams behind; "reverse" lets every other stream
// run ahead first; "random" draws. What no event and no synchronisation orders can so come out either way.
#include "driver.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include <pthread.h>

namespace softgpu {

std::vector<Stream*> streams;

namespace {
uint64_t streams_made = 0;
size_t queued = 0;  // in all streams

constexpr size_t most_queued = 4096;  // the card's queue is not endless either

void run_front(Stream& stream) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    --queued;
    Context& context = *stream.context;
    if (context.error == SUCCESS && work.task) {
        int error = work.task->run(context);
        if (error) context.error = error;
    }
    work.mark->done = true;
    work.mark->seconds = now();
}

const MarkPtr* blocked_by(const Stream& stream) {
    for (const MarkPtr& mark : stream.queue.front().after)
        if (!mark->done) return &mark;
    return nullptr;
}

// Runs just what the mark needs: its stream up to it, and the same for what that waits for.
void run_needed(const MarkPtr& target) {
    std::vector<MarkPtr> needed{target};
    while (!needed.empty()) {
        MarkPtr mark = needed.back();
        if (mark->done) {
            needed.pop_back();
        } else if (mark->stream->queue.empty()) {
            mark->done = true;  // its stream was torn down
        } else if (const MarkPtr* before = blocked_by(*mark->stream)) {
            needed.push_back(*before);
        } else {
            run_front(*mark->stream);
        }
    }
}

// The stream whose first work the schedule lets run next; null where nothing can. `last`: only if no other can.
Stream* draw(const Stream* last) {
    std::vector<Stream*> can;
    for (Stream* stream : streams)
        if (!stream->queue.empty() && !blocked_by(*stream)) can.push_back(stream);
    if (can.empty()) return nullptr;
    if (schedule.order == Order::random) return can[schedule.below(can.size())];
    if (schedule.order == Order::forward) return can.front();
    for (size_t i = can.size(); i-- > 0;)
        if (can[i] != last) return can[i];
    return can.back();
}

void forget_finished() {
    streams.erase(std::remove_if(streams.begin(), streams.end(),
                                 [](Stream* s) { return s->destroyed && s->queue.empty(); }),
                  streams.end());  // the objects stay: marks point to them
}
}  // namespace

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Stream* new_stream(Context& context, bool blocking) {
    auto* stream = new Stream{&context, blocking};
    stream->id = ++streams_made;
    streams.push_back(stream);
    handles.insert(stream);
    return stream;
}

Stream* stream_of(Context& context, void* handle) {
    if (Address(handle) <= 1) return context.legacy;
    if (Address(handle) == 2) return context.per_thread;
    auto* stream = static_cast<Stream*>(handle);
    if (valid(stream) && !stream->destroyed) return stream;
    fault(INVALID_HANDLE, format("%s: %p is no stream, or one that was destroyed", current_call ? current_call : "?", handle));
    return nullptr;
}

void run_until(const MarkPtr& target) {
    if (!target) return;
    if (schedule.order == Order::forward) run_needed(target);
    while (!target->done) {
        Stream* stream = draw(target->stream);
        if (!stream) break;
        run_front(*stream);
    }
    forget_finished();
}

bool run_some() {
    Stream* stream = draw(nullptr);
    if (stream) run_front(*stream);
    return stream != nullptr;
}

void run_all(Context* context) {
    for (;;) {
        MarkPtr target;
        for (Stream* stream : streams)
            if ((!context || stream->context == context) && !stream->queue.empty()) {
                target = stream->last;
                break;
            }
        if (!target) return;
        run_until(target);
    }
}

void invalidate(Capture& capture) { capture.invalid = true; }

static uint64_t this_thread() { return uint64_t(pthread_self()); }

int forbidden_by_capture() {
    for (Stream* stream : streams)
        if (stream->capture && stream->capture->mode != 2 && (stream->capture->mode == 0 || stream->capture->thread == this_thread())) {
            invalidate(*stream->capture);
            return CAPTURE_UNSUPPORTED;
        }
    return SUCCESS;
}

int forbidden_by_captures_of(Context& context) {
    bool met = false;
    for (Stream* stream : streams)
        if (stream->context == &context && stream->capture) {
            invalidate(*stream->capture);
            met = true;
        }
    return met ? CAPTURE_UNSUPPORTED : SUCCESS;
}

int enqueue(Stream& stream, TaskPtr task, std::vector<MarkPtr> after, MarkPtr mark) {
    if (stream.capture) {
        Capture& capture = *stream.capture;
        if (capture.invalid) return CAPTURE_INVALIDATED;
        if (capture.thread != this_thread())
            return fault(CAPTURE_WRONG_THREAD, format("%s: another thread captures this stream, and would take this along", current_call ? current_call : "?"));
        if (task) stream.frontier = {capture.graph->add(std::move(task), stream.frontier)};
        return SUCCESS;
    }
    // Stream 0 waits for the blocking streams and they for it.
    if (stream.blocking)
        for (Stream* other : streams) {
            if (other == &stream || !other->blocking || other->context != stream.context) continue;
            bool one_is_legacy = &stream == stream.context->legacy || other == stream.context->legacy;
            if (!one_is_legacy) continue;
            if (other->capture) {
                invalidate(*other->capture);
                return CAPTURE_IMPLICIT;
            }
            if (other->last && !other->last->done) after.push_back(other->last);
        }
    if (task) task->tally();
    if (!mark) mark = std::make_shared<Mark>();
    mark->stream = &stream;
    stream.queue.push_back({std::move(task), std::move(after), mark});
    stream.last = mark;
    ++queued;
    while (queued > most_queued && run_some()) {
    }
    return SUCCESS;
}
}  // namespace softgpu

using namespace softgpu;

#define STREAM(stream, handle)                                \
    CONTEXT(context);                                         \
    Stream* stream = stream_of(*context, handle);             \
    if (!stream) return INVALID_HANDLE

API cuStreamCreateWithPriority(Stream** stream, unsigned flags, int priority) {
    ENTER;
    CONTEXT(context);
    if (!stream || flags > 1) return INVALID_VALUE;
    *stream = new_stream(*context, flags == 0);
    (*stream)->flags = flags;
    (*stream)->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    return SUCCESS;
}
API cuStreamCreate(Stream** stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
// Its work still runs.
API cuStreamDestroy_v2(void* handle) {
    ENTER;
    STREAM(stream, handle);
    if (stream == context->legacy || stream == context->per_thread) return INVALID_HANDLE;
    if (stream->capture) invalidate(*stream->capture);
    stream->destroyed = true;
    handles.erase(stream);
    forget_finished();
    return SUCCESS;
}
API cuStreamSynchronize(void* handle) {
    ENTER;
    STREAM(stream, handle);
    if (stream->capture) {
        invalidate(*stream->capture);
        return CAPTURE_UNSUPPORTED;
    }
    if (int error = stream == context->legacy ? forbidden_by_capture() : SUCCESS) return error;
    count(&softgpu_counts::synchronisations);
    run_until(stream->last);
    // The NULL stream is as far as the blocking streams are.
    if (stream == context->legacy)
        for (Stream* other : std::vector<Stream*>(streams))
            if (other->blocking && other->context == context) run_until(other->last);
    if (context->error == SUCCESS) {
        std::string text = trampled(nullptr, 0);
        if (!text.empty()) context->error = fault(ILLEGAL_ADDRESS, "cuStreamSynchronize finds " + text);
    }
    return context->error;
}
// A little runs at each query, so that a loop of them ends.
API cuStreamQuery(void* handle) {
    ENTER;
    STREAM(stream, handle);
    if (stream->capture) {
        invalidate(*stream->capture);
        return CAPTURE_UNSUPPORTED;
    }
    count(&softgpu_counts::queries);
    if (!stream->queue.empty()) run_some();
    if (context->error) return context->error;
    return stream->queue.empty() ? SUCCESS : NOT_READY;
}
API cuStreamGetPriority(void* handle, int* priority) {
    ENTER;
    STREAM(stream, handle);
    *priority = stream->priority;
    return SUCCESS;
}
API cuStreamGetFlags(void* handle, unsigned* flags) {
    ENTER;
    STREAM(stream, handle);
    *flags = stream->flags;
    return SUCCESS;
}
API cuStreamGetId(void* handle, uint64_t* id) {
    ENTER;
    STREAM(stream, handle);
    *id = stream->id;
    return SUCCESS;
}
API cuStreamGetCtx(void* handle, Context** of) {
    ENTER;
    STREAM(stream, handle);
    *of = stream->context;
    return SUCCESS;
}
API cuStreamGetDevice(void* handle, int* device) {
    ENTER;
    STREAM(stream, handle);
    *device = stream->context->device;
    return SUCCESS;
}
API cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
    ENTER;
    STREAM(stream, handle);
    return enqueue(*stream, std::make_shared<FunctionTask>(NodeKind::host, [=](Context&) {
                       function(data);
                       return SUCCESS;
                   }));
}
API cuStreamAddCallback(void* handle, void (*function)(void*, int, void*), void* data, unsigned) {
    ENTER;
    STREAM(stream, handle);
    return enqueue(*stream, std::make_shared<FunctionTask>(NodeKind::host, [=](Context& c) {
                       function(handle, c.error, data);
                       return SUCCESS;
                   }));
}

// ----------------------------------------------------------------------------------------------------------------- events

#define EVENT(event) \
    if (!valid(event)) return fault(INVALID_HANDLE, format("%s: %p is no event, or one that was destroyed", __func__, (void*)event))

API cuEventCreate(Event** event, unsigned flags) {
    ENTER;
    CONTEXT(context);
    *event = new Event{flags, nullptr, nullptr, {}};
    handles.insert(*event);
    return SUCCESS;
}
API cuEventDestroy_v2(Event* event) {
    ENTER;
    EVENT(event);
    handles.erase(event);
    delete event;
    return SUCCESS;
}
API cuEventRecord(Event* event, void* handle) {
    ENTER;
    STREAM(stream, handle);
    EVENT(event);
    count(&softgpu_counts::event_records);
    if (stream->capture) {
        if (stream->capture->invalid) return CAPTURE_INVALIDATED;
        event->capture = stream->capture;
        event->nodes = stream->frontier;
        event->mark = nullptr;
        return SUCCESS;
    }
    event->capture = nullptr;
    event->mark = std::make_shared<Mark>();
    return enqueue(*stream, nullptr, {}, event->mark);
}
API cuEventRecordWithFlags(Event* event, void* stream, unsigned) { return cuEventRecord(event, stream); }

API cuStreamWaitEvent(void* handle, Event* event, unsigned) {
    ENTER;
    STREAM(stream, handle);
    EVENT(event);
    count(&softgpu_counts::event_waits);
    if (stream->capture && stream->capture->invalid) return CAPTURE_INVALIDATED;
    if (event->capture) {
        if (event->capture->invalid) return CAPTURE_INVALIDATED;
        if (stream->capture && stream->capture != event->capture) {
            invalidate(*stream->capture), invalidate(*event->capture);
            return CAPTURE_MERGE;
        }
        if (stream == context->legacy) {
            invalidate(*event->capture);
            return CAPTURE_IMPLICIT;
        }
        if (!stream->capture) {  // the stream joins the capture
            stream->capture = event->capture;
            stream->frontier = {};
            event->capture->streams.push_back(stream);
        }
        for (Node* node : event->nodes)
            if (std::find(stream->frontier.begin(), stream->frontier.end(), node) == stream->frontier.end())
                stream->frontier.push_back(node);
        return SUCCESS;
    }
    if (stream->capture) {  // waits for work outside of the graph
        if (!event->mark) return SUCCESS;
        invalidate(*stream->capture);
        return CAPTURE_ISOLATION;
    }
    if (!event->mark || event->mark->done) return SUCCESS;
    return enqueue(*stream, nullptr, {event->mark});
}
API cuEventQuery(Event* event) {
    ENTER;
    CONTEXT(context);
    EVENT(event);
    if (event->capture) return CAPTURED_EVENT;
    count(&softgpu_counts::queries);
    if (event->mark && !event->mark->done) run_some();
    if (context->error) return context->error;
    return !event->mark || event->mark->done ? SUCCESS : NOT_READY;
}
API cuEventSynchronize(Event* event) {
    ENTER;
    CONTEXT(context);
    EVENT(event);
    if (event->capture) return CAPTURED_EVENT;
    count(&softgpu_counts::synchronisations);
    run_until(event->mark);
    return context->error;
}
API cuEventElapsedTime_v2(float* milliseconds, Event* start, Event* end) {
    ENTER;
    CONTEXT(context);
    EVENT(start);
    EVENT(end);
    if (!start->mark || !end->mark || (start->flags & 2) || (end->flags & 2)) return INVALID_HANDLE;
    if (!start->mark->done || !end->mark->done) return NOT_READY;
    *milliseconds = float((end->mark->seconds - start->mark->seconds) * 1e3);
    return SUCCESS;
}
API cuEventElapsedTime(float* milliseconds, Event* start, Event* end) { return cuEventElapsedTime_v2(milliseconds, start, end); }
