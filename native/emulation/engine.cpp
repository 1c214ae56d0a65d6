// Runs kernels. A few blocks are resident at a time, each GPU thread of them is a fiber, and all fibers run on the native
// thread that launched. A thread runs until it waits (barrier, warp function, poll of a flag) or ends; a fiber whose
// thread has ended takes the next one, so that a kernel without barriers costs one fiber.
//
// What is found, with file and line: barriers and warp functions that not all threads reach alike (a block in which
// nothing can run is stuck for good, since its waits concern its own threads alone), polling without end, accesses that
// no device memory answers (as a signal), writes just outside allocations and shared memory. The first fault ends the
// kernel: its fibers are given up where they are, which is harmless as long as kernels own nothing.
#include "emulation/internal.h"

#include <boost/context/detail/fcontext.hpp>
#include <cxxabi.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace ssm::emulation {

Place* current = nullptr;

namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
constexpr size_t stack_bytes = 63 * page_size;
#else
constexpr size_t stack_bytes = 15 * page_size;
#endif
constexpr int stacks_per_slab = 64;
constexpr unsigned warp_lanes = 32;
constexpr unsigned max_threads = 1024;
constexpr int max_resident_blocks = 16;
// So many polls in a row without a store of a flag, an atomic or the end of a thread are no progress.
constexpr unsigned max_polls = 1u << 20;

// ---- Fibers --------------------------------------------------------------------------------------------------------------

struct Thread;

struct Fiber {
    fcontext_t context = nullptr;
    unsigned char* stack = nullptr;
    Thread* thread = nullptr; // the one that it runs
    bool is_made = false;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    const void* bottom = nullptr;
    size_t size = 0;
#endif
#if defined(__SANITIZE_THREAD__)
    void* sanitizer_fiber = nullptr;
#endif
};

struct Fibers {
    Fiber main; // the native thread that launched
    Fiber* running = &main;
    Fiber* previous = nullptr;
    std::vector<std::unique_ptr<Fiber>> all;
    std::vector<Fiber*> idle;
    std::vector<unsigned char*> slabs;
};
Fibers& fibers = *new Fibers; // never destroyed: contexts may outlive static objects

constexpr size_t stack_stride = stack_bytes + page_size; // a guard page below each

void fiber_main(transfer_t from);

bool add_fibers() {
    unsigned char* slab = map_pages(stacks_per_slab * stack_stride);
    if (!slab) {
        return false;
    }
    fibers.slabs.push_back(slab);
    for (int i = 0; i < stacks_per_slab; ++i) {
        mprotect(slab + i * stack_stride, page_size, PROT_NONE);
        auto fiber = std::make_unique<Fiber>();
        fiber->stack = slab + i * stack_stride + page_size;
        fibers.idle.push_back(fiber.get());
        fibers.all.push_back(std::move(fiber));
    }
    return true;
}

bool in_stack_guard(const void* address) {
    auto byte = static_cast<const unsigned char*>(address);
    return std::any_of(fibers.slabs.begin(), fibers.slabs.end(), [&](const unsigned char* slab) {
        return byte >= slab && byte < slab + stacks_per_slab * stack_stride && (byte - slab) % stack_stride < page_size;
    });
}

void make(Fiber& fiber) {
    // Tops at different offsets, so that the stacks of a warp do not compete for the same cache lines.
    size_t color = reinterpret_cast<uintptr_t>(fiber.stack) / stack_stride * 5 % 32 * 64;
    size_t usable = stack_bytes - color;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.stack, stack_bytes);
    fiber.fake_stack = nullptr;
    fiber.bottom = fiber.stack;
    fiber.size = usable;
#endif
#if defined(__SANITIZE_THREAD__)
    if (fiber.sanitizer_fiber) {
        __tsan_destroy_fiber(fiber.sanitizer_fiber);
    }
    fiber.sanitizer_fiber = __tsan_create_fiber(0);
#endif
    fiber.context = make_fcontext(fiber.stack + usable, usable, fiber_main);
    fiber.is_made = true;
}

// What the fiber that runs now does first: note where the one before it stopped.
void arrive(transfer_t from) {
    fibers.previous->context = from.fctx;
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fibers.running->fake_stack, &bottom, &size);
    if (fibers.previous == &fibers.main) {
        fibers.main.bottom = bottom;
        fibers.main.size = size;
    }
#endif
}

void switch_to(Fiber& to) {
    Fiber& from = *fibers.running;
    fibers.previous = &from;
    fibers.running = &to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
#if defined(__SANITIZE_THREAD__)
    if (&from == &fibers.main) {
        from.sanitizer_fiber = __tsan_get_current_fiber();
    }
    __tsan_switch_to_fiber(to.sanitizer_fiber, 0);
#endif
    arrive(jump_fcontext(to.context, nullptr));
}

// ---- The grid that runs --------------------------------------------------------------------------------------------------

enum class State { ready, running, at_barrier, in_exchange, ended };

struct Block;

struct Thread : Place {
    Block* owner;
    Fiber* fiber;
    unsigned rank; // in the block
    State state;
    Where where; // of the last function of the engine that it called
    // While it is in an exchange.
    Exchange kind;
    unsigned mask, bytes;
    int argument, width;
    const void* in;
    void* out;
};

struct Block {
    bool is_active = false;
    unsigned count, started, ended;
    std::vector<Thread> threads;
    // Threads that can go on: a ring of a power of two.
    std::vector<Thread*> ready;
    unsigned ready_begin, ready_count;
    // The threads are started at positions first, first + step, ... modulo count.
    unsigned start, step;
    // The barrier that threads wait at.
    unsigned arrived;
    Barrier barrier_kind;
    Where barrier_where;
    unsigned predicates;
    int barrier_result;
    unsigned exchanging[max_threads / warp_lanes]; // lanes of each warp that wait in an exchange
    unsigned char* shared_pages = nullptr;         // of the largest shared memory; it is used from the end
    unsigned char* shared;

    void push_back(Thread* thread) {
        thread->state = State::ready;
        ready[(ready_begin + ready_count++) & (ready.size() - 1)] = thread;
    }
    void push_front(Thread* thread) {
        thread->state = State::ready;
        ready_begin = (ready_begin - 1) & (ready.size() - 1);
        ready[ready_begin] = thread;
        ++ready_count;
    }
    Thread* pop() {
        Thread* thread = ready[ready_begin];
        ready_begin = (ready_begin + 1) & (ready.size() - 1);
        --ready_count;
        return thread;
    }
};

constexpr size_t shared_pages_bytes = 57 * page_size; // 227 KiB and a page to look for writes before the start
constexpr size_t shared_canary_bytes = 256;

struct Fault {
    cudaError_t error = cudaSuccess;
    std::string sentence;
};

struct Grid {
    const Launch* launch = nullptr;
    pthread_t native; // that runs it
    Block blocks[max_resident_blocks];
    unsigned resident, turn;
    // Blocks are started at first, first + step, ... modulo count.
    uint64_t block_count, blocks_started, next_block, block_step;
    unsigned polls;
    uint64_t random;
    Fault fault;
};
Grid& grid = *new Grid;

uint64_t next_random() {
    grid.random ^= grid.random << 13;
    grid.random ^= grid.random >> 7;
    grid.random ^= grid.random << 17;
    return grid.random >> 11;
}

// Ascending, descending or shuffled, all are: begin at `first`, go on by `step` modulo count.
template <typename Number>
void choose_order(Number count, Number* first, Number* step) {
    if (options.order == 0) {
        *first = 0;
        *step = 1;
    } else if (options.order == 1) {
        *first = count - 1;
        *step = count - 1;
    } else {
        *first = static_cast<Number>(next_random() % count);
        do {
            *step = static_cast<Number>(next_random() % count);
        } while (std::gcd(*step, count) != 1);
    }
}

Thread& running_thread() {
    return *static_cast<Thread*>(current);
}

const char* file_name(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

std::string text(const char* name, uint3 at) {
    char words[64];
    snprintf(words, sizeof(words), "%s (%u,%u,%u)", name, at.x, at.y, at.z);
    return words;
}

std::string kernel_name(const void* kernel) {
    Dl_info info;
    if (!dladdr(kernel, &info) || !info.dli_sname || info.dli_saddr != kernel) {
        return "kernel";
    }
    int status;
    char* words = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    std::string name = words ? words : info.dli_sname;
    free(words);
    name = name.substr(0, name.rfind('('));
    size_t space = name.find(' '); // a template's return type
    return "kernel " + (space != std::string::npos && space < name.find('<') ? name.substr(space + 1) : name);
}

// Ends the kernel with a fault of the running thread.
[[noreturn]] void end_with(cudaError_t error, const std::string& what) {
    Thread& thread = running_thread();
    grid.fault.error = error;
    grid.fault.sentence = what + "; in " + kernel_name(grid.launch->kernel) + ", " + text("block", thread.block) + ", " +
                          text("thread", thread.thread) + ", launched at " + text(grid.launch->stream.where);
    switch_to(fibers.main);
    abort(); // nobody comes back
}

void start_block(Block& block) {
    const Launch& launch = *grid.launch;
    block.is_active = true;
    block.started = block.ended = 0;
    block.ready_begin = block.ready_count = 0;
    block.arrived = 0;
    std::fill(std::begin(block.exchanging), std::end(block.exchanging), 0);
    choose_order(block.count, &block.start, &block.step);

    uint64_t index = grid.next_block;
    ++grid.blocks_started;
    grid.next_block = (index + grid.block_step) % grid.block_count;
    Place place{{0, 0, 0}, {}, launch.block, launch.grid};
    place.block.x = static_cast<unsigned>(index % launch.grid.x);
    place.block.y = static_cast<unsigned>(index / launch.grid.x % launch.grid.y);
    place.block.z = static_cast<unsigned>(index / launch.grid.x / launch.grid.y);
    for (unsigned rank = 0; rank < block.count; ++rank) {
        Thread& thread = block.threads[rank];
        static_cast<Place&>(thread) = place;
        thread.owner = &block;
        thread.fiber = nullptr;
        thread.rank = rank;
        thread.state = State::ready;
        thread.where = launch.stream.where;
        if (++place.thread.x == launch.block.x) {
            place.thread.x = 0;
            if (++place.thread.y == launch.block.y) {
                place.thread.y = 0;
                ++place.thread.z;
            }
        }
    }
    unsigned char* from = block.shared - shared_canary_bytes;
    memset(from, poison_byte(), block.shared_pages + shared_pages_bytes - from);
}

void end_block(Block& block) {
    block.is_active = false;
    const unsigned char* end = block.shared_pages + shared_pages_bytes;
    auto is_damaged = [](unsigned char byte) { return byte != poison_byte(); };
    if (std::any_of(block.shared - shared_canary_bytes, block.shared, is_damaged) ||
        std::any_of<const unsigned char*>(block.shared + grid.launch->shared_bytes, end, is_damaged)) {
        end_with(cudaErrorIllegalAddress,
                 "write outside the block's " + std::to_string(grid.launch->shared_bytes) + " bytes of shared memory");
    }
    if (grid.blocks_started < grid.block_count) {
        start_block(block);
    }
}

// A block in which no thread can run before another one does.
[[noreturn]] void end_stuck(Block& block) {
    Thread* waiting = nullptr;
    Thread* exchanging = nullptr;
    Thread* ended = nullptr;
    for (Thread& thread : block.threads) {
        if (thread.rank >= block.count) {
            break;
        }
        Thread*& kept = thread.state == State::at_barrier    ? waiting
                        : thread.state == State::in_exchange ? exchanging
                                                             : ended;
        kept = kept ? kept : &thread;
    }
    std::string what;
    Thread* other;
    if (exchanging) {
        unsigned warp = exchanging->rank / warp_lanes;
        unsigned missing = exchanging->mask & ~block.exchanging[warp];
        char words[160];
        snprintf(words, sizeof(words),
                 "divergent mask: a warp function at %s waits for lanes %08x, of which %08x do not come",
                 text(exchanging->where).c_str(), exchanging->mask, missing);
        what = words;
        current = exchanging;
        other = &block.threads[std::min(block.count - 1, warp * warp_lanes + unsigned(__builtin_ctz(missing)))];
    } else {
        what = "divergent barrier: " + std::to_string(block.arrived) + " of " + std::to_string(block.count) +
               " threads wait at " + text(block.barrier_where);
        current = waiting;
        other = ended;
    }
    what += ", " + text("thread", other->thread);
    what += other->state == State::ended ? " has ended, last seen at " : " waits at ";
    what += text(other->where);
    end_with(cudaErrorLaunchFailure, what);
}

void pass_turn() {
    if (grid.resident > 1) {
        grid.turn = options.order < 2 ? (grid.turn + 1) % grid.resident : unsigned(next_random() % grid.resident);
    }
}

// The thread to run next, null at the end of the grid.
Thread* next_thread() {
    for (unsigned i = 0; i < grid.resident; ++i) {
        Block& block = grid.blocks[grid.turn];
        if (block.is_active) {
            if (block.ready_count > 0) {
                return block.pop();
            }
            if (block.started < block.count) {
                Thread* thread = &block.threads[block.start];
                ++block.started;
                block.start += block.step;
                block.start -= block.start >= block.count ? block.count : 0;
                return thread;
            }
            end_stuck(block);
        }
        grid.turn = (grid.turn + 1) % grid.resident;
    }
    return nullptr;
}

// Lets another thread run; returns when this one is next.
void give_way() {
    Thread* next = next_thread(); // there is one: this thread or one that it waits for
    if (!next->fiber) {
        if (fibers.idle.empty() && !add_fibers()) {
            end_with(cudaErrorMemoryAllocation, "no memory for the stacks of threads");
        }
        next->fiber = fibers.idle.back();
        next->fiber->thread = next;
        fibers.idle.pop_back();
        if (!next->fiber->is_made) {
            make(*next->fiber);
        }
    }
    next->state = State::running;
    current = next;
    if (next->fiber != fibers.running) {
        switch_to(*next->fiber);
    }
}

void fiber_main(transfer_t from) {
    Fiber& self = *fibers.running;
    arrive(from);
    for (;;) {
        Thread& thread = *self.thread;
        grid.launch->run(grid.launch->call);
        thread.state = State::ended;
        thread.fiber = nullptr;
        note_progress();
        Block& block = *thread.owner;
        if (++block.ended == block.count) {
            end_block(block);
            pass_turn();
        }
        Thread* next = next_thread();
        if (next && !next->fiber) {
            next->fiber = &self;
            self.thread = next;
            next->state = State::running;
            current = next;
            continue;
        }
        fibers.idle.push_back(&self);
        current = next;
        if (next) {
            next->state = State::running;
        }
        switch_to(next ? *next->fiber : fibers.main);
    }
}

// ---- Warp functions ------------------------------------------------------------------------------------------------------

bool is_same(Where x, Where y) {
    return x.line == y.line && (x.file == y.file || strcmp(x.file, y.file) == 0);
}

bool is_vote(Exchange kind) {
    return kind == Exchange::any || kind == Exchange::all || kind == Exchange::ballot;
}

// The lane that a shuffle reads.
int source_lane(const Thread& thread, int lane) {
    int begin = lane & ~(thread.width - 1);
    int end = begin + thread.width;
    switch (thread.kind) {
    case Exchange::index:
        return begin + (thread.argument & (thread.width - 1));
    case Exchange::up:
        return lane - thread.argument < begin ? lane : lane - thread.argument;
    case Exchange::down:
        return lane + thread.argument >= end ? lane : lane + thread.argument;
    default:
        return (lane ^ thread.argument) >= end ? lane : lane ^ thread.argument;
    }
}

// All lanes of the mask are here: hands out the results and lets the lanes go on.
void complete(Block& block, Thread* warp, const Thread& last) {
    unsigned mask = last.mask;
    if (is_vote(last.kind)) {
        unsigned ballot = 0;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            ballot |= static_cast<unsigned>(*static_cast<const bool*>(warp[lane].in)) << lane;
        }
        unsigned result = last.kind == Exchange::any ? ballot != 0 : last.kind == Exchange::all ? ballot == mask : ballot;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            *static_cast<unsigned*>(warp[__builtin_ctz(rest)].out) = result;
        }
    } else if (last.kind != Exchange::sync) {
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            int source = source_lane(warp[lane], lane);
            if (!(mask >> source & 1)) {
                current = &warp[lane];
                fail(cudaErrorLaunchFailure, warp[lane].where, "divergent mask: a shuffle reads a lane outside its mask");
            }
            if (last.bytes == 4) {
                memcpy(warp[lane].out, warp[source].in, 4);
            } else if (last.bytes == 8) {
                memcpy(warp[lane].out, warp[source].in, 8);
            } else {
                memcpy(warp[lane].out, warp[source].in, last.bytes);
            }
        }
    }
    // They go on before the other warps: that keeps fewer stacks in use.
    unsigned first, step;
    choose_order(warp_lanes, &first, &step);
    for (unsigned i = warp_lanes, lane = first + (warp_lanes - 1) * step; i-- > 0; lane -= step) {
        if (mask >> lane % warp_lanes & 1) {
            block.push_front(&warp[lane % warp_lanes]);
        }
    }
}

} // namespace

// ---- What kernels call ---------------------------------------------------------------------------------------------------

std::string text(Where where) {
    return std::string(file_name(where.file)) + ":" + std::to_string(where.line);
}

void fail(cudaError_t error, Where where, const char* what) {
    end_with(error, std::string(what) + " at " + text(where));
}

void note_progress() {
    grid.polls = 0;
}

int barrier(Barrier kind, bool predicate, Where where) {
    Thread& thread = running_thread();
    Block& block = *thread.owner;
    thread.where = where;
    if (block.arrived == 0) {
        block.barrier_kind = kind;
        block.barrier_where = where;
        block.predicates = 0;
    } else if (kind != block.barrier_kind || !is_same(where, block.barrier_where)) {
        fail(cudaErrorLaunchFailure, where,
             ("divergent barrier: other threads of the block wait at " + text(block.barrier_where) + ", this one").c_str());
    }
    block.predicates += predicate;
    thread.state = State::at_barrier;
    if (++block.arrived == block.count) {
        block.arrived = 0;
        block.barrier_result = kind == Barrier::count ? int(block.predicates)
                               : kind == Barrier::all ? block.predicates == block.count
                                                      : block.predicates > 0;
        unsigned rank, step;
        choose_order(block.count, &rank, &step);
        for (unsigned i = 0; i < block.count; ++i) {
            block.push_back(&block.threads[rank]);
            rank += step;
            rank -= rank >= block.count ? block.count : 0;
        }
        pass_turn();
    }
    give_way();
    return block.barrier_result;
}

void exchange(Exchange kind, unsigned mask, const void* in, void* out, unsigned bytes, int argument, int width,
              Where where) {
    Thread& thread = running_thread();
    Block& block = *thread.owner;
    thread.where = where;
    unsigned warp = thread.rank / warp_lanes;
    unsigned lane = thread.rank % warp_lanes;
    unsigned& waiting = block.exchanging[warp];
    if (!(mask >> lane & 1)) {
        fail(cudaErrorLaunchFailure, where, "divergent mask: the mask of a warp function lacks the calling lane,");
    }
    unsigned lanes = std::min(warp_lanes, block.count - warp * warp_lanes);
    if (lanes < warp_lanes && mask >> lanes != 0) {
        fail(cudaErrorLaunchFailure, where, "divergent mask: the mask of a warp function names lanes that the block lacks,");
    }
    if (width <= 0 || width > 32 || (width & (width - 1)) != 0 ||
        (kind <= Exchange::exclusive_or && (argument < 0 || argument >= 32))) {
        fail(cudaErrorLaunchFailure, where, "a shuffle with a lane or width out of range");
    }
    Thread* threads = &block.threads[warp * warp_lanes];
    if (waiting != 0) {
        const Thread& other = threads[__builtin_ctz(waiting & mask ? waiting & mask : waiting)];
        bool is_alike = other.mask == mask ? other.kind == kind && other.bytes == bytes && other.width == width
                                           : (other.mask & mask) == 0;
        // Groups with masks of their own: each must be disjoint from this one's.
        for (unsigned rest = waiting & ~mask; is_alike && rest; rest &= rest - 1) {
            is_alike = !(threads[__builtin_ctz(rest)].mask & mask);
        }
        if (!is_alike) {
            fail(cudaErrorLaunchFailure, where,
                 ("divergent mask: lanes of this warp wait with another mask or function at " + text(other.where) +
                  ", this one")
                     .c_str());
        }
    }
    thread.kind = kind;
    thread.mask = mask;
    thread.bytes = bytes;
    thread.argument = argument;
    thread.width = width;
    thread.in = in;
    thread.out = out;
    thread.state = State::in_exchange;
    waiting |= 1u << lane;
    if ((waiting & mask) == mask) {
        waiting &= ~mask;
        complete(block, threads, thread);
    }
    give_way();
}

void let_others_run(Where where) {
    Thread& thread = running_thread();
    thread.where = where;
    if (++grid.polls > max_polls) {
        fail(cudaErrorLaunchTimeout, where, "no progress: all resident blocks poll flags and nothing changes,");
    }
    thread.owner->push_back(&thread);
    pass_turn();
    give_way();
}

void* shared_memory(size_t bytes, Where where) {
    if (bytes > grid.launch->shared_bytes) {
        fail(cudaErrorIllegalAddress, where,
             (std::to_string(bytes) + " bytes of shared memory used, " + std::to_string(grid.launch->shared_bytes) +
              " given by the launch,")
                 .c_str());
    }
    return running_thread().owner->shared;
}

// ---- Memory faults -------------------------------------------------------------------------------------------------------

namespace {

// Host code whose access to device memory is answered to the caller.
struct Guard {
    sigjmp_buf back;
    pthread_t native;
    const void* volatile address;
};
Guard* guard = nullptr;

struct sigaction previous_actions[65];

void on_fault(int signal, siginfo_t* info, void* context) {
    if (current && pthread_equal(grid.native, pthread_self())) {
        // The handler is left for good by switching to the fiber of the launch.
        Where where = running_thread().where;
        std::string what = signal == SIGFPE                      ? "integer division by zero"
                           : in_stack_guard(info->si_addr)       ? "overflow of the thread's stack"
                           : signal == SIGSEGV && !info->si_addr ? "access to a null pointer"
                                                                 : "access to " + describe(info->si_addr);
        end_with(cudaErrorIllegalAddress, what + ", after " + text(where));
    }
    if (signal == SIGSEGV && in_device_memory(info->si_addr)) {
        if (guard && pthread_equal(guard->native, pthread_self())) {
            guard->address = info->si_addr;
            siglongjmp(guard->back, 1);
        }
        const char sentence[] = "emulated backend: host code touched device memory\n";
        if (write(STDERR_FILENO, sentence, sizeof(sentence) - 1) < 0) {
            abort();
        }
    }
    const struct sigaction& previous = previous_actions[signal];
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal);
    } else {
        sigaction(signal, &previous, nullptr); // the access is tried again and ends the process
    }
}

void install_handlers() {
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE}) {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        // On another stack, since a thread's own may be what overflowed. Left without returning, so not blocked.
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(signal, &action, &previous_actions[signal]);
    }
}

// The stack for the handler of this native thread, unless it has one.
struct SignalStack {
    std::unique_ptr<unsigned char[]> memory;
    SignalStack() {
        stack_t present;
        if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE)) {
            memory = std::make_unique<unsigned char[]>(64 << 10);
            stack_t own = {};
            own.ss_sp = memory.get();
            own.ss_size = 64 << 10;
            sigaltstack(&own, nullptr);
        }
    }
    ~SignalStack() {
        if (memory) {
            stack_t none = {};
            none.ss_flags = SS_DISABLE;
            sigaltstack(&none, nullptr);
        }
    }
};

std::recursive_mutex& mutex() {
    static std::recursive_mutex& one = *new std::recursive_mutex;
    return one;
}

} // namespace

Lock::Lock() : held(mutex()) {
    static const bool is_installed = (install_handlers(), true);
    thread_local SignalStack stack;
    (void)is_installed;
    (void)stack;
}

cudaError_t guarded(void (*function)(void* user), void* user, const char* file, int line) {
    Lock lock;
    Guard own;
    own.native = pthread_self();
    guard = &own;
    bool is_fault = sigsetjmp(own.back, 0) != 0;
    if (!is_fault) {
        function(user);
    }
    guard = nullptr;
    return is_fault ? report(cudaErrorIllegalAddress,
                             "host code touched " + describe(own.address) + ", in what was called at " + text({file, line}))
                    : cudaSuccess;
}

// ---- Launches ------------------------------------------------------------------------------------------------------------

size_t shared_memory_limit() {
    switch (options.architecture) {
    case 75:
        return 64 << 10;
    case 80:
        return 163 << 10;
    case 90:
        return 227 << 10;
    default: // 86, 89
        return 99 << 10;
    }
}

bool is_architecture(int64_t number) {
    return number == 75 || number == 80 || number == 86 || number == 89 || number == 90;
}

namespace {

// Sets up the blocks; false if there is no memory for them.
bool prepare(const Launch& launch) {
    grid.launch = &launch;
    grid.native = pthread_self();
    grid.polls = 0;
    grid.turn = 0;
    grid.random = 0x9e3779b97f4a7c15u * static_cast<uint64_t>(options.order + 1);
    grid.fault = {};
    grid.block_count = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    grid.blocks_started = 0;
    choose_order(grid.block_count, &grid.next_block, &grid.block_step);
    grid.resident = static_cast<unsigned>(std::min<uint64_t>(grid.block_count, uint64_t(options.resident_blocks)));
    unsigned count = launch.block.x * launch.block.y * launch.block.z;
    for (unsigned i = 0; i < grid.resident; ++i) {
        Block& block = grid.blocks[i];
        if (!block.shared_pages && !(block.shared_pages = map_pages(shared_pages_bytes))) {
            return false;
        }
        if (block.threads.size() < count) {
            block.threads.resize(count);
            size_t size = 1;
            while (size < count) {
                size *= 2;
            }
            block.ready.resize(size);
        }
        block.count = count;
        block.shared = block.shared_pages + shared_pages_bytes - ((launch.shared_bytes + 15) & ~size_t{15});
        start_block(block);
    }
    return !fibers.idle.empty() || add_fibers();
}

// The fibers of a kernel that was given up are made anew.
void abandon() {
    fibers.idle.clear();
    for (auto& fiber : fibers.all) {
        fiber->is_made = false;
        fibers.idle.push_back(fiber.get());
    }
}

} // namespace

cudaError_t run(const Launch& launch) {
    Lock lock;
    Stream* stream = find_stream(launch.stream.stream);
    if (!stream) {
        return report(cudaErrorInvalidResourceHandle, "launch on a stream that does not exist");
    }
    if (stream->fault != cudaSuccess) {
        return report(stream->fault, stream->sentence);
    }
    auto refuse = [&](cudaError_t error, const std::string& what) {
        return report(error, kernel_name(launch.kernel) + ": " + what + "; launched at " + text(launch.stream.where));
    };
    dim3 block = launch.block;
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || uint64_t{block.x} * block.y * block.z > max_threads ||
        uint64_t{block.x} * block.y * block.z == 0) {
        return refuse(cudaErrorInvalidConfiguration, text("block of", {block.x, block.y, block.z}) +
                                                         " threads, at most (1024,1024,64) and 1024 in all can be");
    }
    dim3 size = launch.grid;
    if (size.x == 0 || size.y == 0 || size.z == 0 || size.x > 0x7fffffffu || size.y > 65535 || size.z > 65535) {
        return refuse(cudaErrorInvalidConfiguration,
                      text("grid of", {size.x, size.y, size.z}) + " blocks, at most (2147483647,65535,65535) can be");
    }
    if (launch.shared_bytes > shared_memory_limit()) {
        return refuse(cudaErrorInvalidValue, std::to_string(launch.shared_bytes) + " bytes of shared memory, sm_" +
                                                 std::to_string(options.architecture) + " has " +
                                                 std::to_string(shared_memory_limit()));
    }
    Access access;
    if (!prepare(launch)) {
        return refuse(cudaErrorMemoryAllocation, "no memory for the stacks of threads");
    }
    Thread* first = next_thread();
    Fiber* fiber = fibers.idle.back();
    fibers.idle.pop_back();
    if (!fiber->is_made) {
        make(*fiber);
    }
    first->fiber = fiber;
    first->state = State::running;
    fiber->thread = first;
    current = first;
    switch_to(*fiber);
    current = nullptr;
    if (grid.fault.error != cudaSuccess) {
        abandon();
        return report_fault(*stream, grid.fault.error, grid.fault.sentence);
    }
    std::string damage = find_damage();
    if (!damage.empty()) {
        return report_fault(*stream, cudaErrorIllegalAddress,
                            damage + "; in " + kernel_name(launch.kernel) + ", launched at " + text(launch.stream.where));
    }
    return cudaSuccess;
}

bool set_option(const char* name, int64_t value) {
    Lock lock;
    std::string option = name;
    if (option == "emulated.order" && value >= 0) {
        options.order = value;
    } else if (option == "emulated.resident_blocks" && value >= 0 && value <= max_resident_blocks) {
        options.resident_blocks = value == 0 ? 2 : value;
    } else if (option == "emulated.poison" && (value == 0 || value == 1)) {
        options.poison = value;
    } else if (option == "emulated.architecture" && (value == 0 || is_architecture(value))) {
        options.architecture = value == 0 ? 90 : value;
    } else if (option == "emulated.page_protection" && (value == 0 || value == 1)) {
        options.page_protection = value;
        protect_again();
    } else {
        return false;
    }
    return true;
}

} // namespace ssm::emulation
