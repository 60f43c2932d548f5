// Graphs: made by capturing streams, instantiated, replayed. A replay is one piece of work of its stream; inside, the nodes
// run in an order that their dependencies allow and the schedule draws.
#include "driver.h"

#include <algorithm>
#include <cstring>

#include <pthread.h>

using namespace softgpu;

namespace softgpu {
Node* Graph::add(TaskPtr task, std::vector<Node*> after) {
    nodes.push_back(std::make_unique<Node>(Node{std::move(task), std::move(after), unsigned(nodes.size())}));
    return nodes.back().get();
}
}  // namespace softgpu

namespace {
// What an instantiated graph runs. Never changed once made, so that an update does not touch launches still to run.
struct Plan {
    struct Step {
        TaskPtr task;
        std::vector<unsigned> after;
    };
    std::vector<Step> steps;
};
struct Exec {
    std::shared_ptr<const Plan> plan;
};

std::shared_ptr<Plan> plan_of(const Graph& graph) {
    auto plan = std::make_shared<Plan>();
    for (const auto& node : graph.nodes) {
        std::vector<unsigned> after;
        for (const Node* before : node->after) after.push_back(before->index);
        plan->steps.push_back({node->task ? node->task->clone() : nullptr, std::move(after)});
    }
    return plan;
}

struct GraphTask : Cloned<GraphTask> {
    std::shared_ptr<const Plan> plan;
    NodeKind kind() const override { return NodeKind(4); }
    void tally() const override {
        count(&softgpu_counts::graph_launches);
        for (const Plan::Step& step : plan->steps)
            if (step.task) step.task->tally();
    }
    int run(Context& context) override {
        size_t n = plan->steps.size();
        std::vector<unsigned> left(n), ready;
        std::vector<std::vector<unsigned>> next(n);
        for (unsigned i = 0; i < n; ++i) {
            left[i] = unsigned(plan->steps[i].after.size());
            for (unsigned before : plan->steps[i].after) next[before].push_back(i);
            if (!left[i]) ready.push_back(i);
        }
        while (!ready.empty()) {
            auto chosen = schedule.order == Order::forward   ? std::min_element(ready.begin(), ready.end())
                          : schedule.order == Order::reverse ? std::max_element(ready.begin(), ready.end())
                                                             : ready.begin() + long(schedule.below(ready.size()));
            unsigned i = *chosen;
            ready.erase(chosen);
            if (const TaskPtr& task = plan->steps[i].task)
                if (int error = task->run(context)) return error;
            for (unsigned after : next[i])
                if (--left[after] == 0) ready.push_back(after);
        }
        return SUCCESS;
    }
};

uint64_t captures = 0;
// Graphs by handle, and the graph of each node's handle.
std::map<const Node*, Graph*> owners;

int end_capture(Stream& stream, Graph** graph) {
    std::shared_ptr<Capture> capture = stream.capture;
    if (!capture) return 401;  // ILLEGAL_STATE
    if (capture->origin != &stream) {
        invalidate(*capture);
        return CAPTURE_UNMATCHED;
    }
    if (capture->mode != 2 && capture->thread != uint64_t(pthread_self())) return CAPTURE_WRONG_THREAD;
    // Every stream that joined must have been waited for: its last nodes must lie before the origin's.
    std::vector<bool> seen(capture->graph->nodes.size());
    std::vector<Node*> open = stream.frontier;
    while (!open.empty()) {
        Node* node = open.back();
        open.pop_back();
        if (seen[node->index]) continue;
        seen[node->index] = true;
        open.insert(open.end(), node->after.begin(), node->after.end());
    }
    bool joined = std::all_of(capture->streams.begin(), capture->streams.end(), [&](Stream* other) {
        return std::all_of(other->frontier.begin(), other->frontier.end(), [&](Node* node) { return seen[node->index]; });
    });
    for (Stream* other : capture->streams) other->capture = nullptr, other->frontier.clear();
    if (graph) *graph = nullptr;
    if (capture->invalid) return CAPTURE_INVALIDATED;
    if (!joined) return CAPTURE_UNJOINED;
    *graph = capture->graph.release();
    handles.insert(*graph);
    for (const auto& node : (*graph)->nodes) owners[node.get()] = *graph;
    return SUCCESS;
}

// CUDA_KERNEL_NODE_PARAMS (second version).
struct KernelNode {
    Function* function;
    unsigned grid[3], block[3], shared_bytes;
    void** parameters;
    void** extra;
    void* kernel;
    Context* context;
};

}  // namespace

namespace softgpu {
int gather_parameters(Launch& launch, void** parameters, void** extra);  // launch.cpp
}

namespace {
int set_kernel(Context& context, KernelTask& task, const KernelNode& p) {
    Launch launch = task.launch;
    if (p.function) launch.function = p.function;
    if (!valid(launch.function)) return INVALID_HANDLE;
    launch.grid = {p.grid[0], p.grid[1], p.grid[2]};
    launch.block = {p.block[0], p.block[1], p.block[2]};
    launch.shared_bytes = p.shared_bytes;
    if (int error = gather_parameters(launch, p.parameters, p.extra)) return error;
    if (int error = check_launch(context, launch)) return error;
    task.launch = std::move(launch);
    return SUCCESS;
}
}  // namespace

API cuStreamBeginCapture_v2(void* handle, int mode) {
    ENTER;
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    if (stream == context->legacy) return CAPTURE_UNSUPPORTED;
    if (stream->capture || mode < 0 || mode > 2) return stream->capture ? 401 : INVALID_VALUE;
    auto capture = std::make_shared<Capture>();
    capture->origin = stream, capture->mode = mode, capture->thread = uint64_t(pthread_self()), capture->id = ++captures;
    capture->streams = {stream};
    stream->capture = capture;
    stream->frontier = {};
    return SUCCESS;
}
API cuStreamEndCapture(void* handle, Graph** graph) {
    ENTER;
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    return stream ? end_capture(*stream, graph) : INVALID_HANDLE;
}
API cuStreamIsCapturing(void* handle, int* status) {
    ENTER;
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    *status = stream->capture ? (stream->capture->invalid ? 2 : 1) : 0;
    return SUCCESS;
}
static int capture_info(void* handle, int* status, uint64_t* id, Graph** graph, Node*** nodes, size_t* count) {
    CONTEXT(context);
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    *status = stream->capture ? (stream->capture->invalid ? 2 : 1) : 0;
    if (!stream->capture) return SUCCESS;
    if (id) *id = stream->capture->id;
    if (graph) *graph = stream->capture->graph.get();
    if (nodes) *nodes = stream->frontier.data();
    if (count) *count = stream->frontier.size();
    return SUCCESS;
}
API cuStreamGetCaptureInfo_v2(void* handle, int* status, uint64_t* id, Graph** graph, Node*** nodes, size_t* count) {
    ENTER;
    return capture_info(handle, status, id, graph, nodes, count);
}
API cuStreamGetCaptureInfo_v3(void* handle, int* status, uint64_t* id, Graph** graph, Node*** nodes, const void** edges, size_t* count) {
    ENTER;
    if (edges) *edges = nullptr;
    return capture_info(handle, status, id, graph, nodes, count);
}
API cuThreadExchangeStreamCaptureMode(int* mode) {
    static thread_local int current = 0;
    std::swap(*mode, current);
    return SUCCESS;
}

API cuGraphCreate(Graph** graph, unsigned) {
    ENTER;
    CONTEXT(context);
    *graph = new Graph;
    handles.insert(*graph);
    return SUCCESS;
}
API cuGraphDestroy(Graph* graph) {
    ENTER;
    if (!valid(graph)) return INVALID_VALUE;
    for (const auto& node : graph->nodes) owners.erase(node.get());
    handles.erase(graph);
    delete graph;
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(Exec** exec, Graph* graph, uint64_t flags) {
    ENTER;
    CONTEXT(context);
    if (!exec || !valid(graph)) return INVALID_VALUE;
    // Launches by the device exclude automatic frees.
    if (flags > 15 || ((flags & 4) && (flags & 1))) return INVALID_VALUE;
    *exec = new Exec{plan_of(*graph)};
    handles.insert(*exec);
    return SUCCESS;
}
API cuGraphInstantiateWithParams(Exec** exec, Graph* graph, uint64_t* parameters) {
    return cuGraphInstantiateWithFlags(exec, graph, parameters ? parameters[0] : 0);
}
API cuGraphInstantiate_v2(Exec** exec, Graph* graph, void**, char*, size_t) { return cuGraphInstantiateWithFlags(exec, graph, 0); }
API cuGraphExecDestroy(Exec* exec) {
    ENTER;
    if (!valid(exec)) return INVALID_VALUE;
    handles.erase(exec);
    delete exec;
    return SUCCESS;
}
API cuGraphUpload(Exec* exec, void*) {
    ENTER;
    return valid(exec) ? SUCCESS : INVALID_VALUE;
}
API cuGraphLaunch(Exec* exec, void* handle) {
    ENTER;
    CONTEXT(context);
    if (!valid(exec)) return fault(INVALID_VALUE, format("cuGraphLaunch: %p is no graph, or one that was destroyed", (void*)exec));
    Stream* stream = stream_of(*context, handle);
    if (!stream) return INVALID_HANDLE;
    auto task = std::make_shared<GraphTask>();
    task->plan = exec->plan;
    return enqueue(*stream, task);
}
API cuGraphGetNodes(Graph* graph, Node** nodes, size_t* count) {
    ENTER;
    if (!valid(graph) || !count) return INVALID_VALUE;
    size_t room = nodes ? *count : 0;
    for (size_t i = 0; i < std::min(room, graph->nodes.size()); ++i) nodes[i] = graph->nodes[i].get();
    *count = graph->nodes.size();
    return SUCCESS;
}
API cuGraphGetRootNodes(Graph* graph, Node** nodes, size_t* count) {
    ENTER;
    if (!valid(graph) || !count) return INVALID_VALUE;
    size_t room = nodes ? *count : 0, found = 0;
    for (const auto& node : graph->nodes)
        if (node->after.empty()) {
            if (found < room) nodes[found] = node.get();
            ++found;
        }
    *count = found;
    return SUCCESS;
}
API cuGraphGetEdges_v2(Graph* graph, Node** from, Node** to, void*, size_t* count) {
    ENTER;
    if (!valid(graph) || !count) return INVALID_VALUE;
    size_t room = from && to ? *count : 0, found = 0;
    for (const auto& node : graph->nodes)
        for (Node* before : node->after) {
            if (found < room) from[found] = before, to[found] = node.get();
            ++found;
        }
    *count = found;
    return SUCCESS;
}
API cuGraphGetEdges(Graph* graph, Node** from, Node** to, size_t* count) { return cuGraphGetEdges_v2(graph, from, to, nullptr, count); }
API cuGraphNodeGetType(Node* node, int* type) {
    ENTER;
    if (!owners.count(node)) return INVALID_VALUE;
    *type = node->task ? int(node->task->kind()) : int(NodeKind::empty);
    return SUCCESS;
}
API cuGraphKernelNodeGetParams_v2(Node* node, KernelNode* p) {
    ENTER;
    auto* task = owners.count(node) ? dynamic_cast<KernelTask*>(node->task.get()) : nullptr;
    if (!task) return INVALID_VALUE;
    static thread_local void* parameters[1];
    Launch& l = task->launch;
    parameters[0] = l.parameters.data();
    *p = {l.function, {l.grid.x, l.grid.y, l.grid.z}, {l.block.x, l.block.y, l.block.z}, l.shared_bytes, parameters, nullptr, nullptr, nullptr};
    return SUCCESS;
}
API cuGraphKernelNodeSetParams_v2(Node* node, const KernelNode* p) {
    ENTER;
    CONTEXT(context);
    auto* task = owners.count(node) ? dynamic_cast<KernelTask*>(node->task.get()) : nullptr;
    return task ? set_kernel(*context, *task, *p) : INVALID_VALUE;
}
API cuGraphExecKernelNodeSetParams_v2(Exec* exec, Node* node, const KernelNode* p) {
    ENTER;
    CONTEXT(context);
    if (!valid(exec) || !owners.count(node) || node->index >= exec->plan->steps.size()) return INVALID_VALUE;
    auto* old = dynamic_cast<KernelTask*>(exec->plan->steps[node->index].task.get());
    if (!old) return INVALID_VALUE;
    auto task = std::make_shared<KernelTask>(*old);
    if (int error = set_kernel(*context, *task, *p)) return error;
    auto plan = std::make_shared<Plan>(*exec->plan);
    plan->steps[node->index].task = task;
    exec->plan = plan;
    return SUCCESS;
}
// CUgraphExecUpdateResultInfo: the result, then two nodes.
API cuGraphExecUpdate_v2(Exec* exec, Graph* graph, int* info) {
    ENTER;
    CONTEXT(context);
    if (!valid(exec) || !valid(graph)) return INVALID_VALUE;
    auto plan = plan_of(*graph);
    int result = 0;
    if (plan->steps.size() != exec->plan->steps.size()) result = 2;  // the topology
    for (size_t i = 0; !result && i < plan->steps.size(); ++i) {
        const Plan::Step &old = exec->plan->steps[i], &fresh = plan->steps[i];
        if (old.after != fresh.after) result = 2;
        else if (!old.task != !fresh.task || (old.task && old.task->kind() != fresh.task->kind())) result = 3;  // a node's type
    }
    if (info) info[0] = result;
    if (result) return GRAPH_UPDATE_FAILURE;
    exec->plan = plan;
    return SUCCESS;
}
