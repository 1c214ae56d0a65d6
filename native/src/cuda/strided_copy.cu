// strided_copy: copies up to 8 dimensions between two strided tensors. Packs what is in neither of the two layouts that the
// operations take, and unpacks their results.
//
// The host first simplifies the shape: it drops dimensions of size 1, merges neighbours that one stride describes, orders
// the rest by the destination's strides and takes two elements for one while both sides allow it. What is left goes one of
// three ways: a plain memory copy; a transposition, where source and destination are contiguous in different dimensions, by
// tiles of 32 x 32 elements through shared memory, so that both sides are accessed in runs; and everything else by one
// thread for an element. 2 e bytes for an element of e bytes; indices are split by multiplication instead of 64-bit division
// (a launch covers fewer than 2^31 elements), offsets are 64-bit.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int max_rank = StridedCopyParams::max_rank;
constexpr int copy_threads = 256;
constexpr int copy_tile = 32;

// Element of a size, as a word that is moved in one access.
template <int bytes>
using Element = Vector<unsigned char, bytes>;

// Division by a number below 2^31 of numbers below 2^31 (Granlund and Montgomery, "Division by Invariant Integers using
// Multiplication", 1994).
struct Divider {
    uint32_t divisor;
    uint32_t multiplier;
    uint32_t shift;
};

Divider make_divider(uint32_t divisor) {
    uint32_t shift = 0;
    while ((uint64_t{1} << shift) < divisor) {
        ++shift;
    }
    const uint64_t multiplier = ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1;
    return {divisor, static_cast<uint32_t>(multiplier), shift};
}

SSM_DEVICE uint32_t divide(uint32_t x, const Divider& by) {
    const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(x) * by.multiplier >> 32);
    return (high + x) >> by.shift;
}

// Dimension 0 is the outermost. Transposition: the last dimension is contiguous in the destination, the one before in the
// source, and those two are cut into tiles.
struct CopyArguments {
    const void* source;
    void* destination;
    int32_t rank;
    uint32_t count; // elements, or tiles
    Divider sizes[max_rank];
    int64_t source_strides[max_rank];
    int64_t destination_strides[max_rank];
    Divider tiles_across; // transposition: tiles along the last dimension, and along the one before
    Divider tiles_down;
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <int bytes>
__global__ void __launch_bounds__(copy_threads) strided_copy_kernel(CopyArguments arguments) {
    const uint32_t step = gridDim.x * copy_threads;
    for (uint32_t index = blockIdx.x * copy_threads + threadIdx.x; index < arguments.count; index += step) {
        uint32_t rest = index;
        int64_t from = 0;
        int64_t to = 0;
        for (int d = arguments.rank - 1; d >= 0; --d) {
            const uint32_t outer = divide(rest, arguments.sizes[d]);
            const uint32_t own = rest - outer * arguments.sizes[d].divisor;
            from += own * SSM_MUTATE("strided_copy.cuda.wrong_stride", arguments.source_strides[d],
                                     arguments.destination_strides[d]);
            to += own * arguments.destination_strides[d];
            rest = outer;
        }
        const unsigned char* source = static_cast<const unsigned char*>(arguments.source) + from * bytes;
        unsigned char* destination = static_cast<unsigned char*>(arguments.destination) + to * bytes;
        store_vector<bytes>(destination, load_vector<bytes>(source));
    }
}

template <int bytes>
struct TransposeStorage {
    Element<bytes> tile[copy_tile][copy_tile + 1]; // one more, so that a column lies in different banks
};

template <int bytes>
__global__ void __launch_bounds__(copy_threads) strided_transpose_kernel(CopyArguments arguments) {
    constexpr int rows = copy_threads / copy_tile;
    auto& shared = SSM_SHARED(TransposeStorage<bytes>);
    const int across = arguments.rank - 1; // contiguous in the destination
    const int down = arguments.rank - 2;   // contiguous in the source
    const int x = static_cast<int>(threadIdx.x) % copy_tile;
    const int y = static_cast<int>(threadIdx.x) / copy_tile;
    for (uint32_t index = blockIdx.x; index < arguments.count; index += gridDim.x) {
        uint32_t rest = divide(index, arguments.tiles_across);
        const uint32_t first_across = (index - rest * arguments.tiles_across.divisor) * copy_tile;
        uint32_t outer = divide(rest, arguments.tiles_down);
        const uint32_t first_down = (rest - outer * arguments.tiles_down.divisor) * copy_tile;
        rest = outer;
        int64_t from = 0;
        int64_t to = 0;
        for (int d = down - 1; d >= 0; --d) {
            outer = divide(rest, arguments.sizes[d]);
            const uint32_t own = rest - outer * arguments.sizes[d].divisor;
            from += own * arguments.source_strides[d];
            to += own * arguments.destination_strides[d];
            rest = outer;
        }
        const uint32_t left_across = arguments.sizes[across].divisor - first_across;
        const uint32_t left_down = arguments.sizes[down].divisor - first_down;
        from += first_across * arguments.source_strides[across] + first_down * arguments.source_strides[down];
        to += first_across * arguments.destination_strides[across] + first_down * arguments.destination_strides[down];
        const unsigned char* source = static_cast<const unsigned char*>(arguments.source) + from * bytes;
        unsigned char* destination = static_cast<unsigned char*>(arguments.destination) + to * bytes;
        for (int i = y; i < copy_tile; i += rows) {
            if (static_cast<uint32_t>(x) < left_down && static_cast<uint32_t>(i) < left_across) {
                const int64_t offset = x * arguments.source_strides[down] + i * arguments.source_strides[across];
                shared.tile[x][i] = load_vector<bytes>(source + offset * bytes);
            }
        }
        if (!SSM_MUTATE("strided_copy.cuda.missing_barrier", false, true)) {
            __syncthreads();
        }
        for (int i = y; i < copy_tile; i += rows) {
            if (static_cast<uint32_t>(x) < SSM_MUTATE("strided_copy.cuda.off_by_one_tail", left_across, left_across - 1) &&
                static_cast<uint32_t>(i) < left_down) {
                const int64_t offset = x * arguments.destination_strides[across] + i * arguments.destination_strides[down];
                store_vector<bytes>(destination + offset * bytes, shared.tile[i][x]);
            }
        }
        __syncthreads();
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int64_t elements_of(const StridedCopyParams& params) {
    int64_t count = 1;
    for (int d = 0; d < params.rank; ++d) {
        count *= params.shape[d];
    }
    return count;
}

void remove_dimension(StridedCopyParams& params, int d) {
    for (int i = d; i + 1 < params.rank; ++i) {
        params.shape[i] = params.shape[i + 1];
        params.source_strides[i] = params.source_strides[i + 1];
        params.destination_strides[i] = params.destination_strides[i + 1];
    }
    --params.rank;
}

void swap_dimensions(StridedCopyParams& params, int a, int b) {
    const StridedCopyParams old = params;
    params.shape[a] = old.shape[b];
    params.shape[b] = old.shape[a];
    params.source_strides[a] = old.source_strides[b];
    params.source_strides[b] = old.source_strides[a];
    params.destination_strides[a] = old.destination_strides[b];
    params.destination_strides[b] = old.destination_strides[a];
}

StridedCopyParams simplified(StridedCopyParams params) {
    for (int d = params.rank - 1; d >= 0; --d) {
        if (params.shape[d] == 1) {
            remove_dimension(params, d);
        }
    }
    for (int i = 1; i < params.rank; ++i) { // the smallest stride of the destination comes last
        for (int d = i; d > 0 && params.destination_strides[d - 1] < params.destination_strides[d]; --d) {
            swap_dimensions(params, d - 1, d);
        }
    }
    for (int d = params.rank - 2; d >= 0; --d) {
        if (params.source_strides[d] == params.source_strides[d + 1] * params.shape[d + 1] &&
            params.destination_strides[d] == params.destination_strides[d + 1] * params.shape[d + 1]) {
            params.source_strides[d] = params.source_strides[d + 1];
            params.destination_strides[d] = params.destination_strides[d + 1];
            params.shape[d] *= params.shape[d + 1];
            remove_dimension(params, d + 1);
        }
    }
    // Two elements for one.
    while (params.rank > 0 && params.element_size < 16) {
        const int last = params.rank - 1;
        bool even = params.source_strides[last] == 1 && params.destination_strides[last] == 1 &&
                    params.shape[last] % 2 == 0 && is_aligned(params.source, 2 * params.element_size) &&
                    is_aligned(params.destination, 2 * params.element_size);
        for (int d = 0; d < last; ++d) {
            even = even && params.source_strides[d] % 2 == 0 && params.destination_strides[d] % 2 == 0;
        }
        if (!even) {
            break;
        }
        params.element_size *= 2;
        params.shape[last] /= 2;
        for (int d = 0; d < last; ++d) {
            params.source_strides[d] /= 2;
            params.destination_strides[d] /= 2;
        }
    }
    return params;
}

unsigned blocks_for(const BackendContext* context, uint64_t wanted) {
    const uint64_t most = static_cast<uint64_t>(context->multiprocessors) * 32;
    return static_cast<unsigned>(wanted < most ? wanted : most);
}

template <int bytes>
cudaError_t launch_copy(BackendContext* context, CopyArguments arguments, const StridedCopyParams& params) {
    const int across = params.rank - 1;
    const int down = params.rank - 2;
    const auto tiles = [&](int d) { return (static_cast<uint32_t>(params.shape[d]) + copy_tile - 1) / copy_tile; };
    if (down >= 0 && params.destination_strides[across] == 1 && params.source_strides[across] != 1 &&
        params.source_strides[down] == 1 && params.shape[across] >= 8 && params.shape[down] >= 8) {
        arguments.tiles_across = make_divider(tiles(across));
        arguments.tiles_down = make_divider(tiles(down));
        arguments.count = tiles(across) * tiles(down);
        for (int d = 0; d < down; ++d) {
            arguments.count *= static_cast<uint32_t>(params.shape[d]);
        }
        return launch(strided_transpose_kernel<bytes>, dim3(blocks_for(context, arguments.count)), dim3(copy_threads),
                      sizeof(TransposeStorage<bytes>), context->stream, arguments);
    }
    const unsigned blocks = blocks_for(context, (static_cast<uint64_t>(arguments.count) + copy_threads - 1) / copy_threads);
    return launch(strided_copy_kernel<bytes>, dim3(blocks), dim3(copy_threads), 0, context->stream, arguments);
}

// A simplified copy of fewer than 2^31 elements, or two halves of it.
cudaError_t copy_pieces(BackendContext* context, StridedCopyParams params) {
    if (elements_of(params) > INT32_MAX - 1024) {
        int longest = 0;
        for (int d = 1; d < params.rank; ++d) {
            longest = params.shape[d] > params.shape[longest] ? d : longest;
        }
        const int64_t half = params.shape[longest] / 2;
        StridedCopyParams second = params;
        second.shape[longest] -= half;
        second.source =
            static_cast<const unsigned char*>(params.source) + half * params.source_strides[longest] * params.element_size;
        second.destination = static_cast<unsigned char*>(params.destination) +
                             half * params.destination_strides[longest] * params.element_size;
        params.shape[longest] = half;
        const cudaError_t error = copy_pieces(context, params);
        return error != cudaSuccess ? error : copy_pieces(context, second);
    }
    // The dimension contiguous in the source goes next to the last, where a transposition looks for it.
    for (int d = 0; d < params.rank - 2; ++d) {
        if (params.source_strides[d] == 1 && params.source_strides[params.rank - 1] != 1) {
            swap_dimensions(params, d, params.rank - 2);
        }
    }
    CopyArguments arguments{};
    arguments.source = params.source;
    arguments.destination = params.destination;
    arguments.rank = params.rank;
    arguments.count = static_cast<uint32_t>(elements_of(params));
    for (int d = 0; d < params.rank; ++d) {
        arguments.sizes[d] = make_divider(static_cast<uint32_t>(params.shape[d]));
        arguments.source_strides[d] = params.source_strides[d];
        arguments.destination_strides[d] = params.destination_strides[d];
    }
    switch (params.element_size) {
    case 1:
        return launch_copy<1>(context, arguments, params);
    case 2:
        return launch_copy<2>(context, arguments, params);
    case 4:
        return launch_copy<4>(context, arguments, params);
    case 8:
        return launch_copy<8>(context, arguments, params);
    default:
        return launch_copy<16>(context, arguments, params);
    }
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t strided_copy(BackendContext* context, const StridedCopyParams* params) {
    if (elements_of(*params) == 0) {
        return success;
    }
    const StridedCopyParams copy = simplified(*params);
    if (copy.rank == 0 || (copy.rank == 1 && copy.source_strides[0] == 1 && copy.destination_strides[0] == 1)) {
        const size_t bytes = static_cast<size_t>(elements_of(copy) * copy.element_size);
        return status_of(cudaMemcpyAsync(copy.destination, copy.source, bytes, cudaMemcpyDeviceToDevice, context->stream),
                         "strided_copy");
    }
    return status_of(copy_pieces(context, copy), "strided_copy");
}

cudaError_t kernels_present() {
#if defined(SSM_EMULATED)
    return cudaSuccess;
#else
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&strided_copy_kernel<4>));
#endif
}

} // namespace ssm
