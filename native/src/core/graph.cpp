// Events and graphs. A backend that works synchronously has no graphs of its own: its calls are recorded with their
// parameters and made again on launch.
#include "core/arguments.h"
#include "core/context.h"

using namespace ssm;

void ssm_context::begin_capture() {
    if (capturing)
        fail(SSM_ERROR_INVALID_STATE, "ssm_capture_begin: a capture is under way");
    recorded.clear();
    int32_t status = SSM_SUCCESS;
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (backend.capture_begin)
            status = call_backend(backend.capture_begin, own);
        capturing = status == SSM_SUCCESS;
    }
    check(status);
}

std::unique_ptr<ssm_graph> ssm_context::end_capture() {
    if (!capturing)
        fail(SSM_ERROR_INVALID_STATE, "ssm_capture_end: no capture is under way");
    auto graph = std::make_unique<ssm_graph>(*this);
    int32_t status = SSM_SUCCESS;
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (backend.capture_end)
            status = call_backend(backend.capture_end, own, &graph->own);
        capturing = false;
    }
    graph->calls.swap(recorded);
    graph->workspace = buffer;
    check(status);
    free_deferred();
    return graph;
}

ssm_graph::~ssm_graph() {
    if (own)
        call_backend(context.backend.graph_destroy, own);
}

namespace {

ssm_event& required_event(const char* name, ssm_event* event) {
    return required_pointer(name, "an event", event);
}

void expect_same_device(const char* name, const ssm_context& mine, const ssm_context& other) {
    if (&mine.backend == &other.backend && mine.device.id == other.device.id)
        return;
    fail_argument(name, "one of " + name_of_device(mine.device.type, mine.device.id),
                  "one of " + name_of_device(other.device.type, other.device.id));
}

} // namespace

extern "C" int32_t ssm_event_create(ssm_context* context, ssm_event** event) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        ssm_event*& answer = required_pointer("event", "a pointer", event);
        answer = nullptr;
        auto made = std::make_unique<ssm_event>(ssm_event{self});
        self.call(self.backend.event_create, &made->own);
        answer = made.release();
    });
}

extern "C" int32_t ssm_event_destroy(ssm_event* event) {
    return guarded([&] {
        const std::unique_ptr<ssm_event> self(event);
        if (self)
            self->context.check(call_backend(self->context.backend.event_destroy, self->own));
    });
}

extern "C" int32_t ssm_event_record(ssm_context* context, ssm_event* event) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        ssm_event& point = required_event("event", event);
        expect_same_device("event", self, point.context);
        self.expect_no_capture("ssm_event_record");
        self.call(self.backend.event_record, point.own);
    });
}

extern "C" int32_t ssm_event_wait(ssm_context* context, ssm_event* event) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        ssm_event& point = required_event("event", event);
        expect_same_device("event", self, point.context);
        self.expect_no_capture("ssm_event_wait");
        self.call(self.backend.event_wait, point.own);
    });
}

extern "C" int32_t ssm_event_query(ssm_event* event, int32_t* completed) {
    return guarded([&] {
        ssm_event& self = required_event("event", event);
        int32_t& answer = required_pointer("completed", "a pointer", completed);
        self.context.check(call_backend(self.context.backend.event_query, self.own, &answer));
    });
}

extern "C" int32_t ssm_event_synchronize(ssm_event* event) {
    return guarded([&] {
        ssm_event& self = required_event("event", event);
        self.context.check(call_backend(self.context.backend.event_synchronize, self.own));
    });
}

extern "C" int32_t ssm_event_elapsed(ssm_event* start, ssm_event* end, double* seconds) {
    return guarded([&] {
        ssm_event& first = required_event("start", start);
        ssm_event& second = required_event("end", end);
        double& answer = required_pointer("seconds", "a pointer", seconds);
        expect_same_device("end", first.context, second.context);
        first.context.check(call_backend(first.context.backend.event_elapsed, first.own, second.own, &answer));
    });
}

extern "C" int32_t ssm_capture_begin(ssm_context* context) {
    return guarded([&] { ssm_context::enter(context).begin_capture(); });
}

extern "C" int32_t ssm_capture_end(ssm_context* context, ssm_graph** graph) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        ssm_graph*& answer = required_pointer("graph", "a pointer", graph);
        answer = nullptr;
        answer = self.end_capture().release();
    });
}

extern "C" int32_t ssm_graph_launch(ssm_context* context, ssm_graph* graph) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        ssm_graph& captured = required_pointer("graph", "a graph", graph);
        self.expect_no_capture("ssm_graph_launch");
        // Another context's stream is not ordered with the workspace that the captured work uses.
        if (&captured.context != &self)
            fail_argument("graph", "one captured with this context", "another context's");
        if (captured.own)
            self.call(self.backend.graph_launch, captured.own);
        for (const RecordedCall& call : captured.calls)
            self.check(call_backend(call, self.own));
    });
}

extern "C" int32_t ssm_graph_destroy(ssm_graph* graph) {
    return guarded([&] { delete graph; });
}
