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
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

std::ostream& operator<<(std::ostream& out, uint3 at) {
    return out << '(' << at.x << ',' << at.y << ',' << at.z << ')';
}

namespace ssm::emulation {

Place* current = nullptr;

namespace {

using namespace boost::context::detail; // fcontext_t, transfer_t, make_fcontext, jump_fcontext

#if defined(__OPTIMIZE__)
constexpr size_t stack_bytes = 15 * page_size;
#else
constexpr size_t stack_bytes = 63 * page_size;
#endif
constexpr int stacks_per_slab = 64;
constexpr unsigned warp_lanes = 32;
constexpr unsigned max_threads = 1024;
constexpr int max_resident_blocks = 16;
constexpr size_t shared_pages_bytes = 57 * page_size; // 227 KiB and a page to look for writes before the start
constexpr size_t shared_canary_bytes = 256;
// So many polls in a row without a store of a flag, an atomic or the end of a thread are no progress.
constexpr unsigned max_polls = 1u << 20;

// A return to a caller after a switch is one that the processor predicts wrong: so these have no frames of their own.
#define SSM_HOT inline __attribute__((always_inline))

// ---- Fibers --------------------------------------------------------------------------------------------------------------

struct Thread;

struct Fiber {
    fcontext_t context = nullptr; // until it is made
    unsigned char* stack = nullptr;
    Thread* thread = nullptr; // the one that it runs
};

struct Fibers {
    Fiber main; // the native thread that launched
    Fiber* running = &main;
    Fiber* previous = nullptr;
    std::vector<std::unique_ptr<Fiber>> all;
    std::vector<Fiber*> idle;
};
Fibers& fibers = *new Fibers; // never destroyed: contexts may outlive static objects

constexpr size_t stack_stride = stack_bytes + page_size; // a guard page below each

void fiber_main(transfer_t from);

bool add_fibers() {
    unsigned char* slab = map_pages(stacks_per_slab * stack_stride);
    if (!slab)
        return false;
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
    return std::any_of(fibers.all.begin(), fibers.all.end(),
                       [=](auto& fiber) { return byte < fiber->stack && byte >= fiber->stack - page_size; });
}

void make(Fiber& fiber) {
    // Tops at different offsets, so that the stacks of a warp do not compete for the same cache lines.
    size_t color = reinterpret_cast<uintptr_t>(fiber.stack) / stack_stride * 5 % 32 * 64;
    fiber.context = make_fcontext(fiber.stack + stack_bytes - color, stack_bytes - color, fiber_main);
}

// What the fiber that runs now does first: note where the one before it stopped.
SSM_HOT void arrive(transfer_t from) {
    fibers.previous->context = from.fctx;
}

SSM_HOT void switch_to(Fiber& to) {
    fibers.previous = fibers.running;
    fibers.running = &to;
    arrive(jump_fcontext(to.context, nullptr));
}

// ---- The grid that runs --------------------------------------------------------------------------------------------------

uint64_t random_state;
uint64_t next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 11;
}

// Ascending, descending or shuffled, all are: begin somewhere, go on by a step modulo count.
struct Order {
    uint64_t count, at, step;
    explicit Order(uint64_t count = 1) : count(count) {
        at = options.order == 0 ? 0 : options.order == 1 ? count - 1 : next_random() % count;
        step = options.order == 0 ? 1 : options.order == 1 ? count - 1 : next_random() % count;
        while (std::gcd(step, count) != 1)
            step = next_random() % count;
    }
    uint64_t next() {
        uint64_t here = at;
        at += step;
        at -= at >= count ? count : 0;
        return here;
    }
};

enum class State { ready, running, at_barrier, in_exchange, ended };

struct Block;

struct Thread : Place {
    Block* owner;
    Fiber* fiber;
    unsigned rank; // in the block
    State state;
    Where where;            // of the last function of the engine that it called
    const Request* request; // while it is in an exchange
    Thread* next;           // in the queue of those that can go on
};

struct Block {
    bool is_active = false;
    unsigned count, started, ended;
    std::vector<Thread> threads;
    Thread *ready, *last_ready; // those that can go on
    Order order;                // in which threads are started
    // The barrier that threads wait at.
    unsigned arrived;
    Where barrier_where;
    unsigned exchanging[max_threads / warp_lanes]; // lanes of each warp that wait in an exchange
    unsigned char* shared_pages = nullptr;         // of the largest shared memory; it is used from the end
    unsigned char* shared;

    void push_back(Thread* thread) {
        thread->state = State::ready;
        thread->next = nullptr;
        (ready ? last_ready->next : ready) = thread;
        last_ready = thread;
    }
    Thread* pop() {
        Thread* thread = ready;
        ready = ready->next;
        return thread;
    }
};

struct Grid {
    const Launch* launch = nullptr;
    pthread_t native; // that runs it
    Block blocks[max_resident_blocks];
    unsigned resident, turn;
    uint64_t blocks_started;
    Order order; // in which blocks are started
    unsigned polls;
    cudaError_t fault; // and the sentence's first part
    std::string what;
};
Grid& grid = *new Grid;

// The thread that runs, which calls the engine here.
Thread& running_thread(Where where) {
    Thread& thread = *static_cast<Thread*>(current);
    thread.where = where;
    return thread;
}

// Ends the kernel with a fault of the running thread. The fiber is given up, and nothing may be left to destroy on it.
[[noreturn]] void end_with(cudaError_t error, std::string what) {
    grid.fault = error;
    grid.what = std::move(what);
    switch_to(fibers.main);
    abort(); // nobody comes back
}

void start_block(Block& block) {
    const Launch& launch = *grid.launch;
    block.is_active = true;
    block.started = block.ended = block.arrived = 0;
    block.ready = nullptr;
    std::fill(std::begin(block.exchanging), std::end(block.exchanging), 0);
    block.order = Order(block.count);
    uint64_t index = grid.order.next();
    ++grid.blocks_started;
    dim3 size = launch.grid;
    Place place{{},
                {unsigned(index % size.x), unsigned(index / size.x % size.y), unsigned(index / size.x / size.y)},
                launch.block,
                launch.grid};
    for (unsigned rank = 0; rank < block.count; ++rank) {
        Thread& thread = block.threads[rank];
        static_cast<Place&>(thread) = place;
        thread.owner = &block;
        thread.fiber = nullptr;
        thread.rank = rank;
        thread.state = State::ready;
        thread.where = launch.stream.where;
        place.thread.x = (place.thread.x + 1) % launch.block.x;
        place.thread.y = (place.thread.y + (place.thread.x == 0)) % launch.block.y;
        place.thread.z += place.thread.x + place.thread.y == 0;
    }
    unsigned char* from = block.shared - shared_canary_bytes;
    memset(from, poison_byte(), block.shared_pages + shared_pages_bytes - from);
}

void end_block(Block& block) {
    block.is_active = false;
    if (!is_filled(block.shared - shared_canary_bytes, block.shared, poison_byte()) ||
        !is_filled(block.shared + grid.launch->shared_bytes, block.shared_pages + shared_pages_bytes, poison_byte()))
        end_with(cudaErrorIllegalAddress,
                 say("write outside the block's ", grid.launch->shared_bytes, " bytes of shared memory"));
    if (grid.blocks_started < grid.order.count)
        start_block(block);
}

// A block in which no thread can run before another one does.
[[noreturn]] void end_stuck(Block& block) {
    auto find = [&](State state) {
        return std::find_if(&block.threads[0], &block.threads[0] + block.count,
                            [=](const Thread& thread) { return thread.state == state; });
    };
    Thread* waiting = find(State::in_exchange);
    Thread* missed = find(State::ended);
    std::string what;
    if (waiting != &block.threads[0] + block.count) {
        Thread* warp = waiting - waiting->rank % warp_lanes;
        unsigned missing = 0;
        for (unsigned rest = waiting->request->mask; rest; rest &= rest - 1) {
            Thread& other = warp[__builtin_ctz(rest)];
            if (other.state != State::in_exchange || other.request->mask != waiting->request->mask) {
                missing |= rest & -rest;
                missed = &other;
            }
        }
        what = say("divergent mask: a warp function at ", waiting->where, " waits for lanes ", std::hex,
                   waiting->request->mask, ", of which ", missing, std::dec, " do not come");
    } else {
        waiting = find(State::at_barrier);
        what = say("divergent barrier: ", block.arrived, " of ", block.count, " threads wait at ", block.barrier_where);
    }
    what += say(", thread ", missed->thread, missed->state == State::ended ? " has ended, last seen at " : " waits at ",
                missed->where);
    current = waiting;
    end_with(cudaErrorLaunchFailure, std::move(what));
}

void pass_turn() {
    if (grid.resident > 1)
        grid.turn = options.order < 2 ? (grid.turn + 1) % grid.resident : unsigned(next_random() % grid.resident);
}

// The thread to run next, null at the end of the grid.
SSM_HOT Thread* next_thread() {
    for (unsigned i = 0; i < grid.resident; ++i) {
        Block& block = grid.blocks[grid.turn];
        if (block.is_active) {
            if (block.ready)
                return block.pop();
            if (block.started < block.count) {
                ++block.started;
                return &block.threads[block.order.next()];
            }
            end_stuck(block);
        }
        grid.turn = (grid.turn + 1) % grid.resident;
    }
    return nullptr;
}

// An idle fiber for a thread that is to start; false if there is no memory for one.
bool give_fiber(Thread& thread) {
    if (fibers.idle.empty() && !add_fibers())
        return false;
    thread.fiber = fibers.idle.back();
    thread.fiber->thread = &thread;
    fibers.idle.pop_back();
    if (!thread.fiber->context)
        make(*thread.fiber);
    return true;
}

// Lets another thread run; returns when this one is next.
SSM_HOT void give_way() {
    Thread* next = next_thread(); // there is one: this thread or one that it waits for
    if (!next->fiber && !give_fiber(*next))
        end_with(cudaErrorMemoryAllocation, "no memory for the stacks of threads");
    next->state = State::running;
    current = next;
    if (next->fiber != fibers.running)
        switch_to(*next->fiber);
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
        fibers.idle.push_back(&self);
        if (next && !next->fiber)
            give_fiber(*next); // this one
        current = next;
        if (next)
            next->state = State::running;
        if (!next || next->fiber != &self)
            switch_to(next ? *next->fiber : fibers.main);
    }
}

// ---- Warp functions ------------------------------------------------------------------------------------------------------

bool is_same(Where x, Where y) {
    return x.line == y.line && (x.file == y.file || strcmp(x.file, y.file) == 0);
}

// The lane that a shuffle reads.
int source_lane(const Request& request, int lane) {
    int begin = lane & ~(request.width - 1), argument = request.argument;
    int source = request.kind == Exchange::index  ? begin + (argument & (request.width - 1))
                 : request.kind == Exchange::up   ? lane - argument
                 : request.kind == Exchange::down ? lane + argument
                                                  : lane ^ argument; // which may lie in an earlier group
    return source >= begin + request.width || (request.kind == Exchange::up && source < begin) ? lane : source;
}

// All lanes of the mask are in an exchange. If it is the same one, hands out the results and lets the lanes go on.
void complete(Block& block, Thread* warp, const Thread& last) {
    const Request& request = *last.request;
    unsigned ballot = 0;
    for (unsigned rest = request.mask; rest; rest &= rest - 1) {
        const Thread& thread = warp[__builtin_ctz(rest)];
        const Request& other = *thread.request;
        if (other.mask != request.mask)
            return; // lanes wait for others first; if in a circle, the block is stuck
        if (other.kind != request.kind || other.bytes != request.bytes || other.width != request.width)
            end_with(cudaErrorLaunchFailure, say("divergent mask: lanes of a warp wait in another warp function at ",
                                                 thread.where, ", this one at ", last.where));
        if (request.kind >= Exchange::any && request.kind <= Exchange::ballot)
            ballot |= unsigned(*static_cast<const bool*>(other.in)) << __builtin_ctz(rest);
    }
    bool is_shuffle = request.kind < Exchange::any;
    unsigned result = request.kind == Exchange::any   ? ballot != 0
                      : request.kind == Exchange::all ? ballot == request.mask
                                                      : ballot;
    for (unsigned rest = request.kind == Exchange::sync ? 0 : request.mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        int source = is_shuffle ? source_lane(*warp[lane].request, lane) : lane;
        current = &warp[lane];
        if (!(request.mask >> source & 1))
            fail(cudaErrorLaunchFailure, warp[lane].where, "divergent mask: a shuffle reads a lane outside its mask");
        void* out = warp[lane].request->out;
        memcpy(out, is_shuffle ? warp[source].request->in : &result, is_shuffle ? request.bytes : 4);
    }
    block.exchanging[last.rank / warp_lanes] &= ~request.mask;
    // They go on before the other warps: that keeps fewer stacks in use.
    Thread *behind = block.ready, *last_behind = block.last_ready;
    block.ready = nullptr;
    Order order(warp_lanes);
    for (unsigned i = 0; i < warp_lanes; ++i) {
        uint64_t lane = order.next();
        if (request.mask >> lane & 1)
            block.push_back(&warp[lane]);
    }
    if (behind) {
        block.last_ready->next = behind;
        block.last_ready = last_behind;
    }
}

} // namespace

// ---- What kernels call ---------------------------------------------------------------------------------------------------

std::ostream& operator<<(std::ostream& out, Where where) {
    const char* slash = strrchr(where.file, '/');
    return out << (slash ? slash + 1 : where.file) << ':' << where.line;
}

void fail(cudaError_t error, Where where, const char* what) {
    end_with(error, say(what, " at ", where));
}

void note_progress() {
    grid.polls = 0;
}

void barrier(Where where) {
    Thread& thread = running_thread(where);
    Block& block = *thread.owner;
    thread.state = State::at_barrier;
    if (block.arrived == 0)
        block.barrier_where = where;
    else if (!is_same(where, block.barrier_where))
        end_with(cudaErrorLaunchFailure, say("divergent barrier: other threads of the block wait at ", block.barrier_where,
                                             ", this one at ", where));
    if (++block.arrived == block.count) {
        block.arrived = 0;
        Order order(block.count);
        for (unsigned i = 0; i < block.count; ++i)
            block.push_back(&block.threads[order.next()]);
        pass_turn();
    }
    give_way();
}

void exchange(const Request& request, Where where) {
    Thread& thread = running_thread(where);
    Block& block = *thread.owner;
    thread.request = &request;
    unsigned warp = thread.rank / warp_lanes;
    unsigned lanes = std::min(warp_lanes, block.count - warp * warp_lanes);
    if (!(request.mask >> thread.rank % warp_lanes & 1))
        fail(cudaErrorLaunchFailure, where, "divergent mask: the mask of a warp function lacks the calling lane,");
    if (lanes < warp_lanes && request.mask >> lanes != 0)
        fail(cudaErrorLaunchFailure, where, "divergent mask: the mask of a warp function names lanes that the block lacks,");
    if (request.width <= 0 || request.width > 32 || (request.width & (request.width - 1)) != 0 ||
        (request.kind != Exchange::index && (request.argument < 0 || request.argument >= 32)))
        fail(cudaErrorLaunchFailure, where, "a shuffle with a lane or width out of range");
    thread.state = State::in_exchange;
    block.exchanging[warp] |= 1u << thread.rank % warp_lanes;
    if ((block.exchanging[warp] & request.mask) == request.mask)
        complete(block, &block.threads[warp * warp_lanes], thread);
    give_way();
}

void let_others_run(Where where) {
    Thread& thread = running_thread(where);
    if (++grid.polls > max_polls)
        fail(cudaErrorLaunchTimeout, where, "no progress: all resident blocks poll flags and nothing changes,");
    thread.owner->push_back(&thread);
    pass_turn();
    give_way();
}

void* shared_memory(size_t bytes, Where where) {
    if (bytes > grid.launch->shared_bytes)
        end_with(cudaErrorIllegalAddress, say(bytes, " bytes of shared memory used, ", grid.launch->shared_bytes,
                                              " given by the launch, at ", where));
    return running_thread(where).owner->shared;
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

std::recursive_mutex& mutex = *new std::recursive_mutex;
struct sigaction previous_actions[65];

void on_fault(int signal, siginfo_t* info, void* context) {
    if (current && pthread_equal(grid.native, pthread_self())) {
        // The handler is left for good by switching to the fiber of the launch.
        std::string what = signal == SIGFPE                      ? "integer division by zero"
                           : in_stack_guard(info->si_addr)       ? "overflow of the thread's stack"
                           : signal == SIGSEGV && !info->si_addr ? "access to a null pointer"
                                                                 : "access to " + describe(info->si_addr);
        what += say(", after ", static_cast<Thread*>(current)->where);
        end_with(cudaErrorIllegalAddress, std::move(what));
    }
    if (signal == SIGSEGV && in_device_memory(info->si_addr)) {
        if (guard && pthread_equal(guard->native, pthread_self())) {
            guard->address = info->si_addr;
            siglongjmp(guard->back, 1);
        }
        const char sentence[] = "emulated backend: host code touched device memory\n";
        if (write(STDERR_FILENO, sentence, sizeof(sentence) - 1) < 0)
            abort();
    }
    const struct sigaction& previous = previous_actions[signal];
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(signal, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(signal);
    else
        sigaction(signal, &previous, nullptr); // the access is tried again and ends the process
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

// Gives this native thread a stack for the handler, unless it has one.
void add_signal_stack() {
    static thread_local char memory[64 << 10];
    stack_t stack;
    if (sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE)) {
        stack = {memory, 0, sizeof(memory)};
        sigaltstack(&stack, nullptr);
    }
}

} // namespace

Lock::Lock() : held(mutex) {
    [[maybe_unused]] static const bool is_installed = (install_handlers(), true);
    [[maybe_unused]] static thread_local const bool has_stack = (add_signal_stack(), true);
}

cudaError_t guarded(void (*function)(void* user), void* user, const char* file, int line) {
    Lock lock;
    Guard own;
    own.native = pthread_self();
    guard = &own;
    bool is_fault = sigsetjmp(own.back, 0) != 0;
    if (!is_fault)
        function(user);
    guard = nullptr;
    return is_fault ? report(cudaErrorIllegalAddress,
                             say("host code touched ", describe(own.address), ", in what was called at ", Where{file, line}))
                    : cudaSuccess;
}

// ---- Launches ------------------------------------------------------------------------------------------------------------

size_t shared_memory_limit(int64_t architecture) {
    for (auto [known, kibibytes] : {std::pair(75, 64), {80, 163}, {86, 99}, {89, 99}, {90, 227}})
        if (known == architecture)
            return size_t(kibibytes) << 10;
    return 0;
}

namespace {

// Sets up the blocks; false if there is no memory for them.
bool prepare(const Launch& launch) {
    grid.launch = &launch;
    grid.native = pthread_self();
    grid.polls = 0;
    grid.turn = 0;
    random_state = 0x9e3779b97f4a7c15u * static_cast<uint64_t>(options.order + 1);
    grid.fault = cudaSuccess;
    std::string().swap(grid.what);
    grid.order = Order(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z);
    grid.blocks_started = 0;
    grid.resident = unsigned(std::min(grid.order.count, uint64_t(options.resident_blocks)));
    unsigned count = launch.block.x * launch.block.y * launch.block.z;
    for (unsigned i = 0; i < grid.resident; ++i) {
        Block& block = grid.blocks[i];
        if (!block.shared_pages && !(block.shared_pages = map_pages(shared_pages_bytes)))
            return false;
        if (block.threads.size() < count)
            block.threads.resize(count);
        block.count = count;
        block.shared = block.shared_pages + shared_pages_bytes - ((launch.shared_bytes + 15) & ~size_t{15});
        start_block(block);
    }
    return true;
}

} // namespace

cudaError_t run(const Launch& launch) {
    Lock lock;
    Stream* stream = find_stream(launch.stream.stream);
    if (!stream)
        return report(cudaErrorInvalidResourceHandle, "launch on a stream that does not exist");
    if (stream->fault != cudaSuccess)
        return report(stream->fault, stream->sentence);
    auto refuse = [&](cudaError_t error, const std::string& what) {
        return report(error, say(what, "; launched at ", launch.stream.where));
    };
    dim3 block = launch.block;
    uint64_t threads = uint64_t{block.x} * block.y * block.z;
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > max_threads || threads == 0) {
        return refuse(cudaErrorInvalidConfiguration, say("block of ", uint3{block.x, block.y, block.z},
                                                         " threads, (1024,1024,64) and 1024 in all are the limits"));
    }
    dim3 size = launch.grid;
    if (size.x == 0 || size.y == 0 || size.z == 0 || size.x > 0x7fffffffu || size.y > 65535 || size.z > 65535) {
        return refuse(cudaErrorInvalidConfiguration,
                      say("grid of ", uint3{size.x, size.y, size.z}, " blocks, (2147483647,65535,65535) is the limit"));
    }
    if (launch.shared_bytes > shared_memory_limit(options.architecture)) {
        return refuse(cudaErrorInvalidValue, say(launch.shared_bytes, " bytes of shared memory, sm_", options.architecture,
                                                 " has ", shared_memory_limit(options.architecture)));
    }
    Access access;
    Thread* first = prepare(launch) ? next_thread() : nullptr;
    if (!first || !give_fiber(*first))
        return refuse(cudaErrorMemoryAllocation, "no memory for the stacks of threads");
    first->state = State::running;
    current = first;
    switch_to(*first->fiber);
    const Place at = *(current ? current : first); // of the fault, if there is one
    current = nullptr;
    if (grid.fault != cudaSuccess) {
        fibers.idle.clear(); // they are made anew
        for (auto& fiber : fibers.all) {
            fiber->context = nullptr;
            fibers.idle.push_back(fiber.get());
        }
        return report_fault(*stream, grid.fault,
                            say(grid.what, "; in block ", at.block, ", thread ", at.thread, " of the kernel launched at ",
                                launch.stream.where));
    }
    std::string damage = find_damage();
    if (!damage.empty()) {
        return report_fault(*stream, cudaErrorIllegalAddress,
                            say(damage, "; in the kernel launched at ", launch.stream.where));
    }
    return cudaSuccess;
}

bool set_option(const char* name, int64_t value) {
    Lock lock;
    const struct {
        const char* name;
        int64_t* field;
        int64_t standard, most;
    } known[] = {{"emulated.order", &options.order, 0, INT64_MAX},
                 {"emulated.resident_blocks", &options.resident_blocks, 2, max_resident_blocks},
                 {"emulated.poison", &options.poison, 0, 1},
                 {"emulated.architecture", &options.architecture, 90, 90},
                 {"emulated.page_protection", &options.page_protection, 0, 1}};
    for (const auto& one : known) {
        if (strcmp(one.name, name) == 0 && value >= 0 && value <= one.most &&
            (one.field != &options.architecture || value == 0 || shared_memory_limit(value) != 0)) {
            *one.field = value == 0 ? one.standard : value;
            protect_again();
            return true;
        }
    }
    return false;
}

} // namespace ssm::emulation
