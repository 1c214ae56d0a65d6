// Mamba-3's recurrence. Biases, angles and step sizes of a head are made into b, c, decays and a skip connection of its own,
// step by step along time (core/params/mamba3_scaled.h); the rest is ssd. Per step and head: a sine, a cosine and a tanh for
// each pair of states with an angle, about ten operations for each state; b and c are written once and read once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/mamba3.cpp"
#include "hwy/foreach_target.h"

#include "cpu/mamba3-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// U: storage of x, dt, b, c, trap, angles.
template <class U>
class Mamba3Preparation {
  public:
    using Lane = typename Traits<U>::Lane;
    using Head = Mamba3Head<U, Mamba3Inputs>;

    Mamba3Preparation(const Mamba3Inputs& p, const Head& head, const Mamba3Scaled<Lane>& scaled, const Mamba3Last& last)
        : p(p), head(head), scaled(scaled), last(last) {}

    void run() const {
        for_each_piece(p.shape, head.batch, 0, p.shape.length, [&](const Piece& piece) { run_sequence(piece); });
    }

  private:
    // Of a state (R,H,...) with `width` numbers for a head.
    template <class V>
    V* of_row(V* states, int64_t row, int64_t width) const {
        return states ? states + (row * p.shape.channels + head.head) * width : nullptr;
    }
    template <class V>
    V* at(void* rows, int64_t t, int64_t width) const {
        return static_cast<V*>(rows) + ((head.batch * p.shape.length + t) * p.shape.channels + head.head) * width;
    }

    void run_sequence(const Piece& piece) const {
        const Mamba3Buffers<Lane>& buffers = head.buffers;
        const Lane* const initial_angle = of_row(static_cast<const Lane*>(p.initial_angle), piece.row, p.angles);
        const Lane* const initial_b = of_row(static_cast<const Lane*>(p.initial_b), piece.row, p.states);
        const Lane* const initial_x = of_row(static_cast<const Lane*>(p.initial_x), piece.row, p.channels);
        Lane* const last_angle = of_row(static_cast<Lane*>(last.angle), piece.row, p.angles);
        Lane* const last_b = of_row(static_cast<Lane*>(last.b), piece.row, p.states);
        Lane* const last_x = of_row(static_cast<Lane*>(last.x), piece.row, p.channels);
        const int64_t count = piece.count;
        head.read_steps(piece.time, count);
        // What the step before puts into step i.
        const auto entering = [&](int64_t i) { return i < count ? buffers.rest[i] * buffers.s[i] : Lane{0}; };
        if (initial_b)
            make_initial(piece.row, entering(0), initial_b, initial_x);
        if (count == 0) {
            pass_on(initial_angle, p.angles, last_angle);
            pass_on(initial_b, p.states, last_b);
            return pass_on(initial_x, p.channels, last_x);
        }
        head.begin_turn(initial_angle);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t t = piece.time + i;
            const Lane product = head.load_rows(t), s = buffers.s[i];
            const Lane next = SSM_MUTATE("mamba3.cpu.lost_step", entering(i + 1), i % 7 == 6 ? Lane{0} : entering(i + 1));
            head.turn(t, s);
            head.rotate();
            const Lane own = SSM_MUTATE("mamba3.cpu.no_lambda", buffers.lambda[i], Lane{1}) * s;
            U* const b = at<U>(scaled.b, t, p.states);
            U* const c = at<U>(scaled.c, t, p.states);
            write_row(buffers.k, own + next, p.states, b);
            write_row(buffers.q, Lane{1}, p.states, c);
            *at<Lane>(scaled.log_decay, t, 1) = head.rate(t) * s;
            // What ssd adds for the step itself is taken out as it was rounded, and put back as it is: where decays are
            // strong, e is much larger than all that remains of it.
            *at<Lane>(scaled.skip, t, 1) = own * product - product_of_rows(b, c, p.states);
            if (scaled.turns)
                std::copy_n(buffers.turn, p.angles, at<Lane>(scaled.turns, t, p.angles));
        }
        if (last_angle)
            head.end_turn(last_angle);
        if (last_b)
            std::copy_n(SSM_MUTATE("mamba3.cpu.unturned_state", buffers.k, buffers.b), p.states, last_b);
        if (last_x)
            widen_row(place_of<const U>(p.x, head.batch, head.head, piece.time + count - 1), p.channels, last_x);
    }

    static void pass_on(const Lane* from, int64_t count, Lane* to) {
        if (to && from)
            std::copy_n(from, count, to);
        else if (to)
            std::fill_n(to, count, Lane{0});
    }

    static void widen_row(const U* from, int64_t count, Lane* to) {
        constexpr int64_t n = lanes_of<Lane>();
        for (int64_t k = 0; k < count; k += n)
            store_some(to + k, VectorOf<Lane>{load_some(from + k, std::min(n, count - k)).re}, std::min(n, count - k));
    }

    void make_initial(int64_t row, Lane entering, const Lane* b, const Lane* x) const {
        const int64_t size = p.channels * p.states;
        const Lane* const given = of_row(static_cast<const Lane*>(p.initial_state), row, size);
        Lane* const to = of_row(scaled.initial, row, size);
        for (int64_t c = 0; c < p.channels; ++c)
            for (int64_t k = 0; k < p.states; ++k)
                to[c * p.states + k] = (given ? given[c * p.states + k] : Lane{0}) + entering * x[c] * b[k];
    }

    const Mamba3Inputs& p;
    const Head& head;
    const Mamba3Scaled<Lane>& scaled;
    const Mamba3Last& last;
};

template <class Lane>
void prepare_head(const Mamba3Inputs& p, const Mamba3Plan& plan, void* area, const Mamba3Scaled<Lane>& scaled,
                  const Mamba3Last& last, int64_t task) {
    Scratch scratch(area);
    const Mamba3Buffers<Lane> buffers(p.states, p.shape.length, plan.lanes, scratch);
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (std::is_same_v<typename Traits<U>::Lane, Lane> && !Traits<U>::complex) {
            const Mamba3Head<U, Mamba3Inputs> head(p, p.shape.channels, buffers, task / p.shape.channels,
                                                   task % p.shape.channels);
            Mamba3Preparation<U>(p, head, scaled, last).run();
        }
    });
}

void prepare_head_float(const Mamba3Inputs& p, const Mamba3Plan& plan, void* area, const Mamba3Scaled<float>& scaled,
                        const Mamba3Last& last, int64_t task) {
    prepare_head(p, plan, area, scaled, last, task);
}
void prepare_head_double(const Mamba3Inputs& p, const Mamba3Plan& plan, void* area, const Mamba3Scaled<double>& scaled,
                         const Mamba3Last& last, int64_t task) {
    prepare_head(p, plan, area, scaled, last, task);
}

int64_t mamba3_lanes_of(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"
#include "cpu/operations.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(prepare_head_float);
HWY_EXPORT(prepare_head_double);
HWY_EXPORT(mamba3_lanes_of);

// The workspace: the scratch of tasks, what ssd gets, and ssd's own.
template <class Lane>
struct Mamba3Call {
    Mamba3Plan plan;
    Scratch scratch;
    char* area;
    Mamba3Scaled<Lane> scaled;
    SsdParams inner = {};

    Mamba3Call(const BackendContext* context, const Mamba3Params& p)
        : plan(plan_mamba3<Lane>(p)), scratch(p.workspace.data), area(scratch.take<char>(plan.scratch(nullptr).size())),
          scaled(p, false, scratch) {
        scaled.set_inputs(p, context->options.get("mamba3.tile"), inner);
        inner.y = p.y;
        inner.last_state = p.last_state;
    }
    uint64_t own_bytes() const { return static_cast<uint64_t>(scratch.size()); }
};

template <class Lane>
int32_t run_mamba3(BackendContext* context, const Mamba3Params& p) {
    Mamba3Call<Lane> call(context, p);
    if (call.own_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "mamba3: workspace too small");
    prepare_mamba3(context, p, call.plan, call.area, call.scaled, {p.last_angle, p.last_b, p.last_x});
    call.inner.workspace = {static_cast<char*>(p.workspace.data) + call.own_bytes(), p.workspace.bytes - call.own_bytes()};
    return ssd(context, &call.inner);
}

template <class Lane>
int32_t query_mamba3(BackendContext* context, const Mamba3Params& p, uint64_t* bytes) {
    const Mamba3Call<Lane> call(context, p);
    uint64_t inner = 0;
    const int32_t status = ssd_workspace(context, &call.inner, &inner);
    *bytes = call.own_bytes() + inner;
    return status;
}
} // namespace

int64_t mamba3_lanes(DataType type) {
    return HWY_DYNAMIC_DISPATCH(mamba3_lanes_of)(size_of(state_type(type)));
}

template <class Lane>
void prepare_mamba3(BackendContext* context, const Mamba3Inputs& p, const Mamba3Plan& plan, void* scratch,
                    const Mamba3Scaled<Lane>& scaled, const Mamba3Last& last) {
    plan.scratch(scratch).clear();
    const auto prepare = [] {
        if constexpr (std::is_same_v<Lane, float>)
            return HWY_DYNAMIC_DISPATCH(prepare_head_float);
        else
            return HWY_DYNAMIC_DISPATCH(prepare_head_double);
    }();
    parallel_for(plan.tasks, context->threads, [&](int64_t task) {
        plan.scratch(scratch).use([&](void* area) { prepare(p, plan, area, scaled, last, task); });
    });
}
template void prepare_mamba3<float>(BackendContext*, const Mamba3Inputs&, const Mamba3Plan&, void*,
                                    const Mamba3Scaled<float>&, const Mamba3Last&);
template void prepare_mamba3<double>(BackendContext*, const Mamba3Inputs&, const Mamba3Plan&, void*,
                                     const Mamba3Scaled<double>&, const Mamba3Last&);

int32_t mamba3(BackendContext* context, const Mamba3Params* params) {
    return state_type(params->type) == DataType::float64 ? run_mamba3<double>(context, *params)
                                                         : run_mamba3<float>(context, *params);
}

int32_t mamba3_workspace(BackendContext* context, const Mamba3Params* params, uint64_t* bytes) {
    return state_type(params->type) == DataType::float64 ? query_mamba3<double>(context, *params, bytes)
                                                         : query_mamba3<float>(context, *params, bytes);
}

} // namespace ssm::cpu
#endif
