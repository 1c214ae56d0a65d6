// Shared memory: `auto& shared = SSM_SHARED(Storage);` is the block's dynamic shared memory seen as a Storage, a plain
// struct of at most 16-byte alignment without constructors; its contents are undefined at first. The launch gives the
// bytes, at least sizeof(Storage). On the device that is one untyped array for all kernels and a cast, because CUDA
// allows one type per extern array; the emulation hands out the block's memory and checks the size.
#pragma once

#include "cuda/primitives/cuda.h"

namespace ssm {
template <typename Storage>
struct SharedStorage {
    static_assert(alignof(Storage) <= 16, "shared memory is aligned to 16 bytes");
    using Type = Storage;
};
} // namespace ssm

#if defined(__CUDACC__)
extern __shared__ __align__(16) unsigned char ssm_shared_memory[];
#define SSM_SHARED(...) (*reinterpret_cast<typename ::ssm::SharedStorage<__VA_ARGS__>::Type*>(ssm_shared_memory))
#else
#define SSM_SHARED(...)                                                                                                     \
    (*static_cast<typename ::ssm::SharedStorage<__VA_ARGS__>::Type*>(                                                       \
        ::ssm::emulation::shared_memory(sizeof(__VA_ARGS__), {__FILE__, __LINE__})))
#endif
