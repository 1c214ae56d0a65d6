// What the three files of the emulation share: memory.cpp (device memory and its protection), engine.cpp (kernels as
// fibers), runtime.cpp (the CUDA runtime's functions).
#pragma once

#include "emulation/cuda.h"

#include <mutex>
#include <sstream>
#include <string>

namespace ssm::emulation {

// A sentence of words and numbers.
template <typename... Parts>
std::string say(const Parts&... parts) {
    std::ostringstream sentence;
    (sentence << ... << parts);
    return sentence.str();
}

struct Options {
    int64_t order = 0;
    int64_t resident_blocks = 2;
    int64_t poison = 0;
    int64_t architecture = 90;
    int64_t page_protection = 0; // 1: do without protection keys even where the processor has them
};
extern Options options;

// Held by whoever touches the engine or device memory: one kernel, copy or allocation at a time in the process.
// Constructing one also installs the handlers of memory faults, on first use and for this thread.
struct Lock {
    Lock();
    std::unique_lock<std::recursive_mutex> held;
};

// ---- memory.cpp ----------------------------------------------------------------------------------------------------------

constexpr size_t page_size = 4096;
constexpr size_t device_memory_bytes = size_t{16} << 30;

// Pages with inaccessible ones around them.
unsigned char* map_pages(size_t bytes);

bool is_filled(const unsigned char* begin, const unsigned char* end, unsigned char value);
unsigned char poison_byte();
// Null if there is not enough.
void* allocate(size_t bytes);
// False if this is not the start of an allocation. damage: as find_damage, of this allocation.
bool release(void* pointer, std::string* damage);
size_t bytes_in_use();
// Device memory can be touched while one of these lives.
struct Access {
    Access();
    ~Access();
};
void protect_again();
bool in_device_memory(const void* pointer);
// Whether all of the range lies in one allocation.
bool in_allocation(const void* pointer, size_t bytes);
// "4 bytes after the end of an allocation of 1024 bytes"
std::string describe(const void* address);
// What was written outside an allocation, in the bytes around it that no page boundary guards; empty if nothing.
std::string find_damage();

// ---- engine.cpp ----------------------------------------------------------------------------------------------------------

// Bytes for one block; 0 if there is no such architecture.
size_t shared_memory_limit(int64_t architecture);
std::ostream& operator<<(std::ostream& out, Where where);

// ---- runtime.cpp ---------------------------------------------------------------------------------------------------------

struct Stream {
    cudaError_t fault = cudaSuccess; // stays, as CUDA's does
    std::string sentence;
};
// Makes this the thread's last error and answers it.
cudaError_t report(cudaError_t error, const std::string& sentence);
// The stream of a handle; null if there is none.
Stream* find_stream(cudaStream_t handle);
// Reports a fault that the stream keeps from now on.
cudaError_t report_fault(Stream& stream, cudaError_t error, const std::string& sentence);

} // namespace ssm::emulation
