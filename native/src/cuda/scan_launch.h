// Host side of the scan kernels: which path and tile a shape gets, the workspace for it, and the launch. Nothing here
// looks at anything but shapes, options and the number of multiprocessors, so that results repeat.
#pragma once

#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/scan.h"

namespace ssm {

// Calls f with a value of the storage type.
template <typename Function>
int32_t dispatch_number(DataType type, const Function& f) {
    switch (type) {
    case DataType::float32:
        return f(float{});
    case DataType::float64:
        return f(double{});
    case DataType::complex64:
        return f(Complex<float>{});
    case DataType::complex128:
        return f(Complex<double>{});
    case DataType::float16:
        return f(Half{});
    case DataType::bfloat16:
        return f(BFloat16{});
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

struct ScanPlan {
    bool look_back = false;
    int64_t tile = 1;
    int64_t rows = 0;
    int64_t items = 0;
    int32_t lanes = 1;
    int threads = warp_size;
    int teams = 1; // of a block
};

inline int64_t ceil_divide(int64_t x, int64_t y) {
    return x / y + (x % y != 0);
}

template <typename Operator>
ScanPlan plan_scan(const SequenceShape& shape, int multiprocessors, int64_t tile, int64_t path) {
    const bool by_time = shape.layout == Layout::time_contiguous;
    const bool packed = shape.cu_seqlens != nullptr;
    const int64_t state_rows = packed ? shape.sequences : shape.batch;
    const int64_t typical = packed ? ceil_divide(shape.length, shape.sequences > 0 ? shape.sequences : 1) : shape.length;
    ScanPlan plan;
    if (!by_time) {
        while (plan.lanes < warp_size && plan.lanes < shape.channels) {
            plan.lanes *= 2;
        }
    }
    const int64_t per_thread = by_time ? scan_steps_per_thread<Operator> : channel_scan_steps<Operator>;
    const int64_t groups = ceil_divide(shape.channels, plan.lanes);
    const auto capacity = [&](int threads) { return threads / plan.lanes * per_thread; };

    // A row is walked by one team; fewer than four full teams for each multiprocessor leave it idle. Where
    // packed, one sequence may hold nearly all of the time, so that only the channels count.
    const int64_t teams = (packed ? 1 : state_rows) * groups;
    plan.look_back = teams < 4 * static_cast<int64_t>(multiprocessors) && shape.length > capacity(scan_threads) &&
                     (!packed || typical > capacity(scan_threads) / 4);
    if (path != scan_path_default) {
        plan.look_back = path == scan_path_look_back;
    }
    if (shape.length == 0) {
        plan.look_back = false;
    }

    const int64_t wanted = tile > 0 && tile < typical ? tile : typical;
    while (plan.threads < scan_threads && capacity(plan.threads) < wanted) {
        plan.threads *= 2;
    }
    plan.tile = tile > 0 && tile < capacity(plan.threads) ? tile : capacity(plan.threads);
    if (plan.look_back) {
        plan.rows = (packed ? 1 : shape.batch) * groups;
        plan.items = plan.rows * slot_count(shape, plan.tile);
    } else {
        plan.rows = state_rows * groups;
        plan.items = plan.rows;
        plan.teams = by_time && plan.threads == warp_size ? 4 : 1;
    }
    return plan;
}

// Where look-back keeps its records, in the order: ticket, flags (both zeroed by each call), summaries, states.
template <typename Operator>
LookBackRecords<Operator> scan_records(const ScanPlan& plan, WorkspaceParts& parts) {
    LookBackRecords<Operator> records{};
    if (plan.look_back) {
        records.ticket = parts.take<unsigned long long>(1);
        records.flags = parts.take<uint32_t>(plan.items);
        records.summaries = parts.take<typename Operator::Summary>(plan.items * plan.lanes);
        records.states = parts.take<typename Operator::State>(plan.items * plan.lanes);
    }
    return records;
}

template <typename Operator>
uint64_t scan_workspace(const SequenceShape& shape, int multiprocessors, int64_t tile, int64_t path) {
    WorkspaceParts parts(nullptr);
    scan_records<Operator>(plan_scan<Operator>(shape, multiprocessors, tile, path), parts);
    return parts.size();
}

// `arguments` with op, shape, tensors and states filled in; `name` is the operation's.
template <typename Operator>
int32_t launch_scan(BackendContext* context, void (*time_kernel)(ScanArguments<Operator>),
                    void (*channel_kernel)(ScanArguments<Operator>), ScanArguments<Operator> arguments,
                    const Workspace& workspace, int64_t tile, int64_t path, const char* name) {
    const ScanPlan plan = plan_scan<Operator>(arguments.shape, context->multiprocessors, tile, path);
    if (plan.items == 0) {
        return success;
    }
    WorkspaceParts parts(workspace.data);
    arguments.records = scan_records<Operator>(plan, parts);
    if (parts.size() > workspace.bytes) {
        return fail(error_workspace_too_small, "scan: the workspace is smaller than the workspace function says");
    }
    arguments.tile = plan.tile;
    arguments.rows = plan.rows;
    arguments.items = plan.items;
    arguments.lanes = plan.lanes;
    arguments.look_back = plan.look_back;
    if (plan.look_back) {
        const size_t zeroed = static_cast<size_t>(reinterpret_cast<unsigned char*>(arguments.records.flags + plan.items) -
                                                  reinterpret_cast<unsigned char*>(arguments.records.ticket));
        const cudaError_t error = cudaMemsetAsync(arguments.records.ticket, 0, zeroed, context->stream);
        if (error != cudaSuccess) {
            return status_of(error, name);
        }
    }
    // Blocks beyond these take several items each.
    const int64_t most_blocks = plan.look_back ? static_cast<int64_t>(context->multiprocessors) * 8 : int64_t{1} << 30;
    const int64_t wanted_blocks = ceil_divide(plan.items, plan.teams);
    const unsigned blocks = static_cast<unsigned>(wanted_blocks < most_blocks ? wanted_blocks : most_blocks);
    const bool by_time = arguments.shape.layout == Layout::time_contiguous;
    const size_t shared = by_time ? sizeof(TimeScanStorage<Operator>) : sizeof(ChannelScanStorage<Operator>);
    const dim3 block(static_cast<unsigned>(plan.threads), static_cast<unsigned>(plan.teams));
    return status_of(launch(by_time ? time_kernel : channel_kernel, dim3(blocks), block, shared, context->stream, arguments),
                     name);
}

} // namespace ssm
