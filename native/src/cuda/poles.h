// What the operations over rows of poles share.
#pragma once

#include "core/diagonal_system.h"
#include "cuda/context.h"
#include "cuda/primitives/complex.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {

// ---- Work that is cut into items, of which a block takes one after the other

constexpr int64_t most_blocks = int64_t{1} << 30;
inline dim3 blocks_for(int64_t items) {
    return dim3(static_cast<unsigned>(items < most_blocks ? items : most_blocks));
}

// Calls f with a real value of the complex type's precision.
template <typename Function>
int32_t dispatch_complex(DataType type, const Function& f) {
    switch (type) {
    case DataType::complex64:
        return f(float{});
    case DataType::complex128:
        return f(double{});
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

// ---- Terms of Vandermonde sums, as prepare_poles leaves them in the workspace

constexpr int vandermonde_columns = 64; // T: steps l are T l1 + l0

template <typename R>
struct SumPole {
    double x_re, shift;
    double turns, turns_low; // Im(x) / (2 pi) in two parts
    Complex<R> v;            // twice that of a conjugate pair
    Complex<R> step, leap;   // exp(x), exp(x T)
};

// exp(x m): the phase is reduced in double precision, exactly; what is left of it costs R's functions.
template <typename R>
SSM_DEVICE Complex<R> power_of(const SumPole<R>& pole, double m) {
    const double product = pole.turns * m;
    const double rest = fma(pole.turns, m, -product) + pole.turns_low * m;
    const double phase = (product - rint(product)) + rest;
    const R exponent = static_cast<R>(pole.x_re * m);
    R sine, cosine, size;
    sincos_pi(static_cast<R>(2 * phase), sine, cosine);
    if constexpr (sizeof(R) == 4) {
        size = expf(exponent);
    } else {
        size = exp(exponent);
    }
    return {size * cosine, size * sine};
}

// Fills rows x states of SumPole, of the precision that type has. In vandermonde_multiply.cu.
cudaError_t prepare_poles(BackendContext* context, DataType type, int64_t rows, int64_t states, int64_t length,
                          bool conjugate_pairs, const PoleSource& source, void* poles);

} // namespace ssm
