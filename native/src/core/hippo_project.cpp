// Argument checks of the projection onto HiPPO's measures.
#include "core/hippo_measure.h"
#include "core/state_space.h"

using namespace ssm;

namespace {

// The checked call. One signal may come without the batch's dimension.
struct HippoProject : Call<HippoProjectParams> {
    const Tensor *f, *timestamps, *initial_state, *coefficients, *last_state;

    HippoProject(const ssm_context& context, const ssm_hippo_project_args* given, Purpose purpose) : Call(context, purpose) {
        const auto args = read_arguments(given);
        f = &contract.input("f", args.f);
        timestamps = &contract.optional_input("timestamps", args.timestamps);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        coefficients = &contract.output("coefficients", args.coefficients);
        last_state = &contract.optional_output("last_state", args.last_state);
        read_measure(args.measure);
        read_discretization(args.discretization, args.alpha);
        if (args.start != SSM_HIPPO_START_ZERO && args.start != SSM_HIPPO_START_FIRST)
            fail_argument("start", "an ssm_hippo_start", std::to_string(args.start));
        expect_rule(args);

        expect_type(*f, {DataType::float32, DataType::float64});
        params.type = f->type();
        for (const Tensor* tensor : {timestamps, initial_state, coefficients, last_state})
            expect_type(*tensor, params.type);
        if (f->rank != 1 && f->rank != 2)
            fail_argument("f", "rank 1, or 2 with a batch", "shape " + text_of_shape(f->shape, f->rank));
        const bool has_batch = f->rank == 2;
        const int64_t batch = has_batch ? f->shape[0] : 1, length = f->shape[f->rank - 1];
        expect_rank(*coefficients, f->rank + 1);
        const int64_t states = coefficients->shape[f->rank];
        has_batch ? expect_shape(*coefficients, {batch, length, states}) : expect_shape(*coefficients, {length, states});
        for (const Tensor* tensor : {initial_state, last_state})
            has_batch ? expect_shape(*tensor, {batch, states}) : expect_shape(*tensor, {states});
        expect_shape(*timestamps, {length});
        expect_hippo_size(*coefficients, args.measure, states);
        contract.expect_outputs_apart();

        params.measure = args.measure;
        params.discretization = args.discretization;
        const bool counts_from_first = args.start == SSM_HIPPO_START_FIRST, is_legs = args.measure == SSM_HIPPO_LEGS;
        params.starts_from_first =
            counts_from_first && (is_legs ? args.steps_before == 0 && args.time_before == 0 : !*initial_state);
        if (params.starts_from_first && *initial_state)
            fail_argument("initial_state", "NULL where the first sample starts", "a tensor");
        params.alpha = args.alpha;
        params.dt = args.dt;
        params.time_before = args.time_before;
        params.first_divisor = args.steps_before + (counts_from_first ? 0 : 1);
        params.batch = batch;
        params.length = length;
        params.states = states;
        if (f->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        plan.add_compact(params.f, *f);
        plan.add_compact(params.timestamps, *timestamps);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.coefficients, *coefficients);
        plan.add_compact(params.last_state, *last_state);
    }

    void check_values(ssm_context& context) const {
        check_ascending(context, *timestamps, params.time_before, params.starts_from_first);
    }

  private:
    // What the measure does with dt, timestamps and the number of the step.
    void expect_rule(const ssm_hippo_project_args& args) const {
        const bool is_legs = args.measure == SSM_HIPPO_LEGS;
        if (is_legs && args.discretization == SSM_DISCRETIZATION_ZOH)
            fail_argument("discretization", "bilinear, euler, backward_euler or generalized_bilinear for legs", "zoh");
        if (is_legs && args.dt != 0)
            fail_argument("dt", "0 for legs, whose steps are 1/k", number_text(args.dt));
        if (!is_legs && !(args.dt > 0 && std::isfinite(args.dt)))
            fail_argument("dt", "a positive number for a sliding measure", number_text(args.dt));
        if (!is_legs && *timestamps)
            fail_argument("timestamps", "NULL for a sliding measure", "a tensor");
        if (!(args.time_before >= 0) || (args.time_before > 0 && !*timestamps))
            fail_argument("time_before", *timestamps ? "0 or more" : "0 without timestamps", number_text(args.time_before));
        if (args.steps_before < 0 || (args.steps_before > 0 && (!is_legs || *timestamps)))
            fail_argument("steps_before", is_legs && !*timestamps ? "0 or more" : "0 with a sliding measure or timestamps",
                          std::to_string(args.steps_before));
    }
};

} // namespace

extern "C" int32_t ssm_hippo_project(ssm_context* context, const ssm_hippo_project_args* args) {
    return run_operation<HippoProject>(context, args, &Backend::hippo_project, &Backend::hippo_project_workspace);
}

extern "C" int32_t ssm_hippo_project_workspace(ssm_context* context, const ssm_hippo_project_args* args, uint64_t* bytes) {
    return query_workspace<HippoProject>(context, args, bytes, &Backend::hippo_project_workspace);
}
