// The state of the driver in software, shared by its files. One lock guards all of it: a call holds it from entry to return,
// and the work of streams runs inside the call that waits for it, one piece at a time. So "the GPU" is one thread at a time,
// and what a run does depends on its seed alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "softgpu_counters.h"

#define SOFTGPU_API __attribute__((visibility("default")))
#define API extern "C" SOFTGPU_API int

// Results of the driver API.
enum : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_TIMEOUT = 702,
    PEER_ACCESS_ALREADY_ENABLED = 704,
    PEER_ACCESS_NOT_ENABLED = 705,
    ASSERT = 710,
    HOST_MEMORY_ALREADY_REGISTERED = 712,
    HOST_MEMORY_NOT_REGISTERED = 713,
    MISALIGNED_ADDRESS = 716,
    LAUNCH_FAILED = 719,
    COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
    GRAPH_UPDATE_FAILURE = 910,
    INVALID_CLUSTER_SIZE = 912,
};

namespace softgpu {

using Address = uintptr_t;
struct Kernel;

// ---------------------------------------------------------------------------------------------- settings and the schedule

enum class Order { forward, reverse, random };
struct Schedule {
    Order order = Order::forward;
    uint64_t seed = 0, state = 0;
    uint64_t draw() {  // splitmix64
        uint64_t z = (state += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    uint64_t below(uint64_t bound) { return uint64_t((unsigned __int128)draw() * bound >> 64); }
    bool parse(const char* text);
    std::string name() const;
};
extern Schedule schedule;
std::string setting(const char* name, const char* otherwise);

// ------------------------------------------------------------------------------------------------------------- the lock

extern std::recursive_mutex lock;
extern thread_local const char* current_call;  // the API function that this thread is in
extern bool initialised;

struct Call {
    std::lock_guard<std::recursive_mutex> hold{lock};
    const char* outer;
    explicit Call(const char* name) : outer(current_call) { current_call = name; }
    ~Call() { current_call = outer; }
};
// Begins an API function: takes the lock and says its name.
#define ENTER softgpu::Call softgpu_call(__func__)

// -------------------------------------------------------------------------------------------------------------- devices

struct Model {
    const char *key, *name;
    int major, minor, sms;
    size_t memory;
    int shared_optin, shared_sm, blocks_sm, threads_sm, l2, clock_khz, memory_clock_khz, bus_bits, clusters, double_ratio;
};
struct Device {
    const Model* model;
    int ordinal;
    size_t memory, used = 0;
};
extern std::vector<Device> devices;
int device_attribute(const Device& device, int attribute);  // -1: unknown

// --------------------------------------------------------------------------------------------------- contexts and handles

struct Stream;
struct Context {
    int device;
    bool primary;
    int references = 0;
    int error = SUCCESS;  // once set, every call says so, as on the card
    unsigned flags = 0;
    Stream* legacy = nullptr;      // stream 0
    Stream* per_thread = nullptr;  // stream 2; one for all threads
    std::map<int, size_t> limits;
};
Context* current_context();
// The error that a call which needs a usable context gives at once.
int usable(Context*& context);
#define CONTEXT(context)                                   \
    softgpu::Context* context;                             \
    if (int error = softgpu::usable(context)) return error

// Every handle that was given out and not destroyed.
extern std::unordered_set<const void*> handles;
template <class T>
bool valid(const T* handle) { return handles.count(handle) != 0; }

// --------------------------------------------------------------------------------------------------------------- memory

enum class Kind { device, host, managed };
struct Allocation {
    Address begin;
    size_t bytes;
    Address pages;
    size_t page_bytes;
    Kind kind;
    int device;
    bool open;  // false: asked for on a stream that has not come to it
    bool closing;  // its free is on a stream
    uint64_t number;
    std::string made_by, freed_by;
};
int allocate(size_t bytes, Kind kind, int device, bool open, Address& address);
void open_allocation(Address address);
// `running` says which call or piece of work frees it.
int release(Address address, Kind kind, const char* running);
Allocation* find_allocation(Address address);
bool is_pinned(const void* address);
int register_host(Address address, size_t bytes);
int unregister_host(Address address);
// Where an address lies, in words.
std::string describe(Address address);
bool in_arena(Address address);
// Says what is wrong with the bytes from `address` on, or returns an empty text.
std::string wrong_with(Address address, size_t bytes, bool must_be_open);
// Looks whether the bytes around allocations are as they were: of those that `words` point into, or (null) of all.
std::string trampled(const void* words, size_t bytes);
void report_leaks(int device);
void release_all(int device);
void poison(void* address, size_t bytes);

// --------------------------------------------------------------------------------------------------------------- faults

// Prints and counts what was found; returns `error`.
int fault(int error, const std::string& text);
std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
void install_handlers();
void prepare_thread_for_faults();
extern uint64_t fault_count;

// ------------------------------------------------------------------------------------------------------------- counting

struct Tally {
    ::softgpu_counts counters{};
    std::map<std::string, uint64_t> launches;
};
// Applies to the process's tally and to the thread's.
void count(uint64_t ::softgpu_counts::* counter, uint64_t amount = 1);
void count_launch(const char* kernel);
void live_memory(int64_t bytes);

// ------------------------------------------------------------------------------------------------------ work on streams

// The end of a piece of work.
struct Mark {
    bool done = false;
    double seconds = 0;  // when it ended
    Stream* stream = nullptr;
};
using MarkPtr = std::shared_ptr<Mark>;

enum class NodeKind : int { kernel = 0, copy = 1, set = 2, host = 3, empty = 5, wait = 6, record = 7 };
struct Task {
    std::string call;  // the API function that asked for it
    Task() : call(current_call ? current_call : "?") {}
    virtual ~Task() = default;
    virtual int run(Context& context) = 0;
    virtual void tally() const {}
    virtual NodeKind kind() const = 0;
    virtual std::shared_ptr<Task> clone() const = 0;
};
using TaskPtr = std::shared_ptr<Task>;
template <class Self>
struct Cloned : Task {
    TaskPtr clone() const override { return std::make_shared<Self>(static_cast<const Self&>(*this)); }
};
// Work that is only a function.
struct FunctionTask : Cloned<FunctionTask> {
    std::function<int(Context&)> function;
    std::function<void()> counting;
    NodeKind node;
    FunctionTask(NodeKind node, std::function<int(Context&)> function, std::function<void()> counting = {})
        : function(std::move(function)), counting(std::move(counting)), node(node) {}
    int run(Context& context) override { return function(context); }
    void tally() const override { if (counting) counting(); }
    NodeKind kind() const override { return node; }
};

struct Node {
    TaskPtr task;  // null: an empty node
    std::vector<Node*> after;
    unsigned index = 0;
};
struct Graph {
    std::vector<std::unique_ptr<Node>> nodes;
    Node* add(TaskPtr task, std::vector<Node*> after);
};
struct Capture {
    std::unique_ptr<Graph> graph = std::make_unique<Graph>();
    Stream* origin;
    int mode;
    uint64_t thread, id;
    bool invalid = false;
    std::vector<Stream*> streams;
};
struct Work {
    TaskPtr task;
    std::vector<MarkPtr> after;
    MarkPtr mark;
};
struct Stream {
    Context* context;
    bool blocking;  // ordered with stream 0
    int priority = 0;
    unsigned flags = 0;
    uint64_t id = 0;
    bool destroyed = false;
    std::deque<Work> queue;
    MarkPtr last;  // of the latest work, done or not
    std::shared_ptr<Capture> capture;
    std::vector<Node*> frontier;
};
extern std::vector<Stream*> streams;

struct Event {
    unsigned flags;
    MarkPtr mark;  // null: never recorded
    std::shared_ptr<Capture> capture;
    std::vector<Node*> nodes;
};

Stream* new_stream(Context& context, bool blocking);
// The stream of a handle: 0, 1 and 2 have meanings of their own. Null where the handle is none.
Stream* stream_of(Context& context, void* handle);
// Puts work on a stream, or into the graph that it is being captured into.
int enqueue(Stream& stream, TaskPtr task, std::vector<MarkPtr> after = {}, MarkPtr mark = nullptr);
void invalidate(Capture& capture);
// The error of a call that captures forbid in this thread (they wait, or allocate); marks the capture invalid.
int forbidden_by_capture();
// The same of a call that waits for the whole context: no mode lets it through, whichever thread makes it. Every capture of the
// context is invalid then.
int forbidden_by_captures_of(Context& context);
// Runs work, in the schedule's order, until the mark is done.
void run_until(const MarkPtr& mark);
void forget_traffic();
void run_all(Context* context);  // null: of every context
bool run_some();                 // one piece of work, if there is any
double now();

// ----------------------------------------------------------------------------------------------------- kernels and grids

struct Dim { unsigned x = 1, y = 1, z = 1; };
inline uint64_t product(Dim d) { return uint64_t(d.x) * d.y * d.z; }
struct Module { std::string origin; };
struct Function {
    const Kernel* kernel;
    Module* module;
    int max_dynamic_shared = 48 << 10;
    int carveout = -1;
    bool non_portable_cluster = false;
    int device;
    int max_threads() const;
};
struct Launch {
    Function* function;
    Dim grid, block, cluster;
    unsigned shared_bytes = 0;
    bool cooperative = false, clustered = false;
    std::vector<char> parameters;
};
const Kernel* find_kernel(const std::string& name);
int run_kernel(const Launch& launch, std::string& trouble);
int blocks_per_sm(const Device& device, const Function& function, uint64_t threads, size_t shared_bytes);
int clusters_on_device(const Device& device, const Function& function, uint64_t threads, size_t shared_bytes, unsigned size);
int check_launch(Context& context, Launch& launch);
struct KernelTask : Cloned<KernelTask> {
    Launch launch;
    int run(Context& context) override;
    void tally() const override;
    NodeKind kind() const override { return NodeKind::kernel; }
};

// What libcublas.so and libcudnn.so ask of the driver. `run` does the arithmetic when the stream comes to it.
SOFTGPU_API int enqueue_gemm(void* stream, const char* call, uint64_t flops, std::function<std::string()> run);
SOFTGPU_API int enqueue_call(void* stream, const char* call, std::function<std::string()> run);
SOFTGPU_API std::string operand_trouble(const void* address, size_t bytes, bool must_be_open = true);

}  // namespace softgpu
