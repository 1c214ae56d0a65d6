// cuFFT behind the few functions that are used of it. The names and numbers below are its documented C interface, the same
// in all of its versions; its header is not needed to build, nor the library to load.
#include "cuda/fft_library.h"

#include <string>
#include <type_traits>

#if !defined(__CUDACC__)
#include "cufft_stand_in/cufft.h"
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ssm {
namespace {

using Handle = int;
constexpr int complex_float = 0x29, complex_double = 0x69; // CUFFT_C2C, CUFFT_Z2Z
constexpr int fft_success = 0, fft_out_of_memory = 2;      // CUFFT_SUCCESS, CUFFT_ALLOC_FAILED

struct FftLibrary {
    int (*create)(Handle*) = nullptr;
    int (*destroy)(Handle) = nullptr;
    int (*set_auto_allocation)(Handle, int) = nullptr;
    int (*make_plan)(Handle, int, long long*, long long*, long long, long long, long long*, long long, long long, int,
                     long long, size_t*) = nullptr;
    int (*set_stream)(Handle, cudaStream_t) = nullptr;
    int (*set_work_area)(Handle, void*) = nullptr;
    int (*run_float)(Handle, void*, void*, int) = nullptr;
    int (*run_double)(Handle, void*, void*, int) = nullptr;
    std::string error; // why it is not there

    FftLibrary() {
#if defined(__CUDACC__)
        // Its own major version is one below the toolkit's; another one will do as well.
#if defined(_WIN32)
        const char* const names[] = {"cufft64_12.dll", "cufft64_11.dll", "cufft64_10.dll"};
        const auto open = [](const char* name) { return LoadLibraryExA(name, nullptr, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS); };
        const auto symbol = [](HMODULE library, const char* name) { return GetProcAddress(library, name); };
#else
        const char* const names[] = {"libcufft.so.12", "libcufft.so.11", "libcufft.so.10"};
        const auto open = [](const char* name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); };
        const auto symbol = [](void* library, const char* name) { return dlsym(library, name); };
#endif
        constexpr int own = CUDART_VERSION >= 13000 ? 0 : CUDART_VERSION >= 12000 ? 1 : 2;
        auto library = open(names[own]);
        for (int i = 0; i < 3 && !library; ++i) {
            library = open(names[i]);
        }
        if (!library) {
            error = std::string(names[own]) + " is not where the system looks for libraries";
            return;
        }
        const auto find = [&](auto& function, const char* name) {
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol(library, name));
            if (!function) {
                error = std::string("it has no function ") + name;
            }
        };
        find(create, "cufftCreate");
        find(destroy, "cufftDestroy");
        find(set_auto_allocation, "cufftSetAutoAllocation");
        find(make_plan, "cufftMakePlanMany64");
        find(set_stream, "cufftSetStream");
        find(set_work_area, "cufftSetWorkArea");
        find(run_float, "cufftExecC2C");
        find(run_double, "cufftExecZ2Z");
#else
        create = cufftCreate;
        destroy = cufftDestroy;
        set_auto_allocation = cufftSetAutoAllocation;
        make_plan = cufftMakePlanMany64;
        set_stream = cufftSetStream;
        set_work_area = cufftSetWorkArea;
        run_float = cufftExecC2C;
        run_double = cufftExecZ2Z;
#endif
    }
};

const FftLibrary& fft_library() {
    static const FftLibrary library;
    return library;
}

cudaError_t error_of(int status) {
    return status == fft_success ? cudaSuccess : status == fft_out_of_memory ? cudaErrorMemoryAllocation : cudaErrorUnknown;
}

int64_t power_of_two_up_to(int64_t count) {
    int64_t power = 1;
    while (power <= count / 2) {
        power *= 2;
    }
    return power;
}

} // namespace

// One for each length, power of two of rows, and precision. They stay as long as the context: a captured graph reads their
// tables.
class FftPlans {
  public:
    struct Plan {
        int64_t length, count;
        int kind;
        Handle handle;
        size_t bytes;
    };

    FftPlans() = default;
    FftPlans(const FftPlans&) = delete;
    FftPlans& operator=(const FftPlans&) = delete;
    ~FftPlans() {
        for (const Plan& plan : plans) {
            fft_library().destroy(plan.handle);
        }
    }

    int get(int64_t length, int64_t count, int kind, Plan& found) {
        for (const Plan& plan : plans) {
            if (plan.length == length && plan.count == count && plan.kind == kind) {
                found = plan;
                return fft_success;
            }
        }
        const FftLibrary& library = fft_library();
        found = {length, count, kind, 0, 0};
        int status = library.create(&found.handle);
        if (status != fft_success) {
            return status;
        }
        long long own_length = length;
        status = library.set_auto_allocation(found.handle, 0);
        if (status == fft_success) {
            status = library.make_plan(found.handle, 1, &own_length, nullptr, 1, length, nullptr, 1, length, kind, count,
                                       &found.bytes);
        }
        if (status == fft_success) {
            plans.push_back(found);
        } else {
            library.destroy(found.handle);
        }
        return status;
    }

  private:
    std::vector<Plan> plans;
};

namespace {

FftPlans& plans_of(BackendContext* context) {
    if (!context->fft_plans) {
        context->fft_plans = std::make_shared<FftPlans>();
    }
    return *context->fft_plans;
}

template <typename R>
constexpr int kind_of = sizeof(R) == 4 ? complex_float : complex_double;

} // namespace

template <typename R>
int32_t fft_library_bytes(BackendContext* context, int64_t length, int64_t count, uint64_t* bytes) {
    *bytes = 0;
    if (!fft_library().error.empty()) {
        return fail(error_library_not_found, ("cuFFT could not be opened: " + fft_library().error).c_str());
    }
    for (int64_t power = power_of_two_up_to(count); power > 0; power /= 2) {
        FftPlans::Plan plan{};
        const int status = plans_of(context).get(length, power, kind_of<R>, plan);
        if (status != fft_success) {
            return status_of(error_of(status), "a plan of cuFFT");
        }
        *bytes = *bytes < plan.bytes ? plan.bytes : *bytes;
    }
    return success;
}

template <typename R>
cudaError_t fft_library_run(BackendContext* context, Complex<R>* points, int64_t length, int64_t count, int sign,
                            void* work) {
    const FftLibrary& library = fft_library();
    while (count > 0) {
        FftPlans::Plan plan{};
        int status = plans_of(context).get(length, power_of_two_up_to(count), kind_of<R>, plan);
        if (status == fft_success) {
            status = library.set_stream(plan.handle, context->stream);
        }
        if (status == fft_success) {
            status = library.set_work_area(plan.handle, work);
        }
        if (status == fft_success) {
            status = (sizeof(R) == 4 ? library.run_float : library.run_double)(plan.handle, points, points, sign);
        }
        if (status != fft_success) {
            return error_of(status);
        }
        points += plan.count * length;
        count -= plan.count;
    }
    return cudaSuccess;
}

template int32_t fft_library_bytes<float>(BackendContext*, int64_t, int64_t, uint64_t*);
template int32_t fft_library_bytes<double>(BackendContext*, int64_t, int64_t, uint64_t*);
template cudaError_t fft_library_run<float>(BackendContext*, Complex<float>*, int64_t, int64_t, int, void*);
template cudaError_t fft_library_run<double>(BackendContext*, Complex<double>*, int64_t, int64_t, int, void*);

} // namespace ssm
