// Argument checks of the long causal convolution.
#include "core/causal_conv.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConv : Call<CausalConvParams> {
    const Tensor *u, *k, *k_reverse, *d, *pre_gate, *post_gate, *initial_state, *cu_seqlens, *spectrum, *y, *last_state;

    CausalConv(const ssm_context& context, const ssm_causal_conv_args* given, Purpose purpose)
        : CausalConv(context, read_arguments(given), purpose) {}

    // needs_output: not where a spectrum is being planned.
    CausalConv(const ssm_context& context, const ssm_causal_conv_args& args, Purpose purpose, bool needs_output = true)
        : Call(context, purpose) {
        u = &contract.input("u", args.u);
        k = &contract.input("k", args.k);
        k_reverse = &contract.optional_input("k_reverse", args.k_reverse);
        d = &contract.optional_input("d", args.d);
        pre_gate = &contract.optional_input("pre_gate", args.pre_gate);
        post_gate = &contract.optional_input("post_gate", args.post_gate);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        spectrum = &contract.optional_input("spectrum", args.spectrum);
        y = needs_output ? &contract.output("y", args.y) : &contract.optional_output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);

        expect_type(*u, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = u->type();
        for (const Tensor* tensor : {pre_gate, post_gate, y})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {k, k_reverse, d, initial_state, spectrum, last_state})
            expect_type(*tensor, state_type(params.type));

        SequenceShape& shape = read_shape(params.shape, *u, *cu_seqlens);
        const int64_t batch = shape.batch, heads = shape.channels, length = shape.length, rows = shape.state_rows();
        params.taps = expect_taps(*k, heads);
        expect_shape(*k_reverse, {heads, params.taps});
        expect_shape(*d, {heads});
        for (const Tensor* tensor : {pre_gate, post_gate, y})
            expect_shape(*tensor, {batch, heads, length});
        for (const Tensor* tensor : {initial_state, last_state})
            expect_shape(*tensor, {rows, heads, params.taps - 1});
        expect_no_state(*k_reverse, {initial_state, last_state});
        params.spectrum_length = expect_spectrum(*spectrum, heads, params.taps, bool(*k_reverse));

        contract.expect_outputs_apart();

        if (u->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        expect_reach(cut(), params.taps);
        shape.layout = Layout::time_contiguous; // a transform runs along time
        plan.add(params.u, *u, shape.layout);
        plan.add(params.pre_gate, *pre_gate, shape.layout);
        plan.add(params.post_gate, *post_gate, shape.layout);
        plan.add(params.y, *y, shape.layout);
        plan.add_compact(params.k, *k);
        plan.add_compact(params.k_reverse, *k_reverse);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.spectrum, *spectrum);
        plan.add_compact(params.last_state, *last_state);
    }

    int64_t sequences() const { return params.shape.sequences; }
    TransformCut cut() const {
        return cut_transforms(params.shape.length, params.shape.sequences, params.taps, bool(*k_reverse),
                              bool(*initial_state), params.spectrum_length, bool(*spectrum));
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv(ssm_context* context, const ssm_causal_conv_args* args) {
    return run_operation<CausalConv>(context, args, &Backend::causal_conv, &Backend::causal_conv_workspace);
}

extern "C" int32_t ssm_causal_conv_workspace(ssm_context* context, const ssm_causal_conv_args* args, uint64_t* bytes) {
    return query_workspace<CausalConv>(context, args, bytes, &Backend::causal_conv_workspace);
}

extern "C" int32_t ssm_causal_conv_spectrum_length(ssm_context* context, const ssm_causal_conv_args* args, int64_t* length) {
    return guarded([&] {
        const ssm_context& self = ssm_context::enter(context);
        int64_t& answer = required_pointer("length", "a pointer", length);
        answer = 0;
        ssm_causal_conv_args wanted = read_arguments(args);
        wanted.spectrum = nullptr;
        const CausalConv call(self, wanted, Purpose::query, false);
        if (call.is_empty()) {
            answer = TransformCut::least_length;
            return;
        }
        // All taps have a place in a spectrum, however few steps there are.
        const int64_t taps = call.k->shape[1];
        const bool has_reverse = bool(*call.k_reverse);
        const int64_t least = std::max(power_of_two_from(has_reverse ? 2 * taps : taps), TransformCut::least_length);
        const TransformCut cut =
            cut_transforms(call.u->shape[2], call.sequences(), taps, has_reverse, bool(*call.initial_state), 0, true);
        if (std::max(cut.length, least) > TransformCut::most_length) {
            fail_argument("k", "taps that a transform of " + std::to_string(TransformCut::most_length) + " numbers holds",
                          std::to_string(taps));
        }
        answer = std::max(cut.length, least);
    });
}
