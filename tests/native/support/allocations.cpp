#include "support/allocations.h"

#include <cerrno>
#include <cstddef>
#include <cstdio>

#include <atomic>
#include <unistd.h>

#if !defined(SSM_HAS_SANITIZER)

static std::atomic<int64_t> calls{0}, live{0};

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

static void* counted(void* pointer) {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (pointer)
        live.fetch_add(1, std::memory_order_relaxed);
    return pointer;
}

void* malloc(size_t bytes) {
    return counted(__libc_malloc(bytes));
}
void* calloc(size_t count, size_t bytes) {
    return counted(__libc_calloc(count, bytes));
}
void* memalign(size_t alignment, size_t bytes) {
    return counted(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(size_t alignment, size_t bytes) {
    return counted(__libc_memalign(alignment, bytes));
}
int posix_memalign(void** pointer, size_t alignment, size_t bytes) {
    *pointer = counted(__libc_memalign(alignment, bytes));
    return *pointer ? 0 : ENOMEM;
}
void* realloc(void* old, size_t bytes) {
    void* pointer = __libc_realloc(old, bytes);
    calls.fetch_add(1, std::memory_order_relaxed);
    live.fetch_add((pointer ? 1 : 0) - (old && (pointer || bytes == 0) ? 1 : 0), std::memory_order_relaxed);
    return pointer;
}
void free(void* pointer) {
    if (pointer)
        live.fetch_sub(1, std::memory_order_relaxed);
    __libc_free(pointer);
}
}

ssm::test::Allocations ssm::test::allocations() {
    return {calls.load(), live.load()};
}

#else

ssm::test::Allocations ssm::test::allocations() {
    return {0, 0};
}

#endif

int64_t ssm::test::resident_bytes() {
    long long total = 0, resident = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%lld %lld", &total, &resident) != 2)
            resident = 0;
        std::fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}
