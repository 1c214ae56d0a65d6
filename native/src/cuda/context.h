// What the backend keeps for a context, and what its files share on the host side.
#pragma once

#include "core/options.h"
#include "core/params.h"
#include "core/status.h"
#include "cuda/primitives/cuda.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace ssm {

// OPERATION.tile: steps of time that a team of threads does at once. OPERATION.path: how the carried state travels, see each
// operation.
// scan_path: associative_scan.path, linear_recurrence.path and linear_recurrence_backward.path.
enum ScanPath : int64_t { scan_path_default = 0, scan_path_rows = 1, scan_path_look_back = 2 };

// causal_conv1d.path and causal_conv1d_backward.path: general_width takes the kernel for any width where the one for two to
// four weights would do.
enum ConvolutionPath : int64_t { convolution_path_default = 0, convolution_path_general_width = 1 };

class FftPlans;

struct BackendContext {
    int device = 0;
    int multiprocessors = 0;
    cudaStream_t own_stream = nullptr;
    cudaStream_t stream = nullptr; // own_stream or a foreign one
    cudaEvent_t order = nullptr;   // orders a new stream after the old one
    bool memory_pools = false;
    bool capturing = false;
    std::vector<void*> freed_in_capture; // freed once the capture has ended: a capture would record the freeing
    std::mutex mutex;                    // of stream, capturing and freed_in_capture, because free comes from any thread
    std::shared_ptr<FftPlans> fft_plans; // of cuFFT, where it was asked for
    Options options;
};

// The status for what the runtime answered; leaves a sentence behind where that is an error. `what` was being done.
int32_t status_of(cudaError_t error, const char* what);
// Leaves a sentence and answers the status.
int32_t fail(int32_t status, const char* sentence);

constexpr uint64_t round_up(uint64_t bytes, uint64_t multiple) {
    return (bytes + multiple - 1) / multiple * multiple;
}

// Hands out parts of the workspace, 256-byte aligned; without memory it only counts.
class WorkspaceParts {
  public:
    explicit WorkspaceParts(void* data) : data(static_cast<unsigned char*>(data)) {}
    template <typename T>
    T* take(int64_t count) {
        unsigned char* part = data ? data + bytes : nullptr;
        bytes += round_up(static_cast<uint64_t>(count) * sizeof(T), 256);
        return reinterpret_cast<T*>(part);
    }
    uint64_t size() const { return bytes; }

  private:
    unsigned char* data;
    uint64_t bytes = 0;
};

int32_t strided_copy(BackendContext* context, const StridedCopyParams* params);
// Whether the device can run the kernels of this file: the answer of cudaFuncGetAttributes for one of them.
cudaError_t kernels_present();

} // namespace ssm
