// What the checks of the dense and the diagonal plus low-rank systems share.
#pragma once

#include "core/dense_algebra.h"
#include "core/operation.h"
#include "core/params/dense_system.h"
#include "core/params/dplr_system.h"

#include <cmath>

namespace ssm {

inline DataType complex_of(DataType real) {
    return real == DataType::float64 ? DataType::complex128 : DataType::complex64;
}
inline DataType real_of(DataType complex) {
    return complex == DataType::complex128 ? DataType::float64 : DataType::float32;
}

inline std::string number_text(double value) {
    std::string text = std::to_string(value);
    return text;
}

// A rule for dense systems, with its alpha.
inline void read_discretization(int32_t discretization, double alpha) {
    if (discretization < SSM_DISCRETIZATION_ZOH || discretization > SSM_DISCRETIZATION_ASYNC)
        fail_argument("discretization", "an ssm_discretization", std::to_string(discretization));
    if (discretization == SSM_DISCRETIZATION_DIRAC || discretization == SSM_DISCRETIZATION_ASYNC) {
        fail_argument("discretization", "zoh, bilinear, euler, backward_euler or generalized_bilinear",
                      discretization == SSM_DISCRETIZATION_DIRAC ? "dirac, of diagonal systems alone"
                                                                 : "async, of diagonal systems alone");
    }
    if (discretization == SSM_DISCRETIZATION_GENERALIZED_BILINEAR) {
        if (!(alpha >= 0 && alpha <= 1))
            fail_argument("alpha", "a number from 0 to 1", number_text(alpha));
    } else if (alpha != 0) {
        fail_argument("alpha", "0 without the generalized bilinear rule", number_text(alpha));
    }
}

inline void expect_states(const Tensor& tensor, int64_t states) {
    if (states < 1)
        fail_argument(tensor.name, "at least one state", "shape " + text_of_shape(tensor.shape, tensor.rank));
}

// The tensors of dense systems, checked.
struct DenseTensors {
    const Tensor *a, *b, *c, *dt;

    template <class Args>
    DenseTensors(Contract& contract, const Args& args)
        : a(&contract.input("a", args.a)), b(&contract.input("b", args.b)), c(&contract.input("c", args.c)),
          dt(&contract.input("dt", args.dt)) {}

    template <class Args>
    void check(const Args& args, DenseSystem& system) const {
        read_discretization(args.discretization, args.alpha);
        expect_type(*a, {DataType::float32, DataType::float64});
        for (const Tensor* tensor : {b, c, dt})
            expect_type(*tensor, a->type());
        expect_rank(*a, 3);
        const int64_t heads = a->shape[0], states = a->shape[2];
        expect_shape(*a, {heads, states, states});
        expect_shape(*b, {heads, states});
        expect_shape(*c, {heads, states});
        expect_shape(*dt, {heads});
        expect_states(*a, states);
        system.type = a->type();
        system.heads = heads;
        system.states = states;
        system.discretization = args.discretization;
        system.alpha = args.alpha;
    }
    void place(Plan& plan, DenseSystem& system) const {
        plan.add_compact(system.a, *a);
        plan.add_compact(system.b, *b);
        plan.add_compact(system.c, *c);
        plan.add_compact(system.dt, *dt);
    }
};

// The tensors of diagonal plus low-rank systems, checked.
struct DplrTensors {
    const Tensor *eigenvalues, *p, *b, *c, *dt;

    template <class Args>
    DplrTensors(Contract& contract, const Args& args)
        : eigenvalues(&contract.input("eigenvalues", args.eigenvalues)), p(&contract.input("p", args.p)),
          b(&contract.input("b", args.b)), c(&contract.input("c", args.c)), dt(&contract.input("dt", args.dt)) {}

    template <class Args>
    void check(const Args& args, DplrSystem& system) const {
        system.conjugate_pairs = read_bool("conjugate_pairs", args.conjugate_pairs);
        expect_type(*eigenvalues, {DataType::complex64, DataType::complex128});
        const DataType type = eigenvalues->type();
        for (const Tensor* tensor : {p, b, c})
            expect_type(*tensor, type);
        expect_type(*dt, real_of(type));
        expect_rank(*eigenvalues, 2);
        const int64_t heads = eigenvalues->shape[0], states = eigenvalues->shape[1];
        expect_rank(*p, 3);
        system.rank = p->shape[1];
        if (system.rank < 1 || system.rank > 4)
            fail_argument("p", "a rank of 1 to 4", "shape " + text_of_shape(p->shape, p->rank));
        expect_shape(*p, {heads, system.rank, states});
        expect_shape(*b, {heads, states});
        expect_shape(*c, {heads, states});
        expect_shape(*dt, {heads});
        expect_states(*eigenvalues, states);
        system.type = real_of(type);
        system.heads = heads;
        system.states = states;
    }
    void place(Plan& plan, DplrSystem& system) const {
        plan.add_compact(system.eigenvalues, *eigenvalues);
        plan.add_compact(system.p, *p);
        plan.add_compact(system.b, *b);
        plan.add_compact(system.c, *c);
        plan.add_compact(system.dt, *dt);
    }
};

} // namespace ssm
