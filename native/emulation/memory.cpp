// Device memory: one range of addresses in which every allocation has inaccessible pages around it. Its end lies on the
// guard page as closely as the 256-byte alignment of its start allows; the bytes between hold a pattern that is checked
// after every kernel. Host code cannot touch any of it: a protection key of the processor (or, without keys, mprotect)
// opens it while a kernel or a copy runs. Addresses are used again as late as possible, so that stale pointers fault.
#include "emulation/internal.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace ssm::emulation {
namespace {

constexpr size_t arena_bytes = size_t{1} << 38;
constexpr size_t guard_bytes = size_t{1} << 20;
constexpr size_t alignment = 256;

constexpr size_t round_up(size_t bytes, size_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

struct Allocation {
    unsigned char* start;
    size_t bytes;
    unsigned char* pages;
    size_t page_bytes;
    unsigned char canary;

    unsigned char* end() const { return start + bytes; }
    unsigned char* pages_end() const { return pages + page_bytes; }
};

// Addresses that nothing answers; null if there are not so many.
unsigned char* reserve_pages(size_t bytes, void* at = nullptr) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    void* range = mmap(at, bytes, PROT_NONE, flags, -1, 0);
    return range == MAP_FAILED ? nullptr : static_cast<unsigned char*>(range);
}

struct Arena {
    unsigned char* begin = nullptr;
    unsigned char* cursor = nullptr;
    std::map<const unsigned char*, Allocation> live; // by the first page
    size_t bytes = 0;
    int key = -1;
    int opened = 0;

    void reserve() {
        if (begin)
            return;
        begin = reserve_pages(arena_bytes);
        cursor = begin + guard_bytes;
        key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    }
    bool uses_key() const { return key >= 0 && options.page_protection == 0; }
    bool protect(const Allocation& allocation) const {
        int rights = uses_key() || opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
        int used_key = uses_key() || key < 0 ? key : 0; // with -1 this is mprotect
        return pkey_mprotect(allocation.pages, allocation.page_bytes, rights, used_key) == 0;
    }
    void set_access(bool open) const {
        if (uses_key())
            pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
        else
            for (const auto& entry : live)
                protect(entry.second);
    }
    // The allocation whose pages, or the guard behind them, hold the address.
    const Allocation* at(const void* address) const {
        auto next = live.upper_bound(static_cast<const unsigned char*>(address));
        return next == live.begin() ? nullptr : &std::prev(next)->second;
    }
    // A free place for so many bytes and a guard behind, from the cursor on, then from the start.
    unsigned char* place(size_t page_bytes) {
        unsigned char* limit = begin + arena_bytes - guard_bytes;
        for (int round = 0; round < 2; ++round) {
            while (static_cast<ptrdiff_t>(page_bytes) <= limit - cursor) {
                auto next = live.lower_bound(cursor);
                if (next != live.begin() && std::prev(next)->second.pages_end() + guard_bytes > cursor)
                    cursor = std::prev(next)->second.pages_end() + guard_bytes;
                else if (next != live.end() && cursor + page_bytes + guard_bytes > next->first)
                    cursor = next->second.pages_end() + guard_bytes;
                else
                    return cursor;
            }
            cursor = begin + guard_bytes;
        }
        return nullptr;
    }
};

Arena& arena = *new Arena; // never destroyed: contexts may outlive static objects

std::string damage_of(const Allocation& allocation) {
    Access access;
    unsigned char* end = allocation.end();
    if (is_filled(allocation.pages, allocation.start, allocation.canary) &&
        is_filled(end, allocation.pages_end(), allocation.canary))
        return {};
    auto is_damaged = [&](unsigned char byte) { return byte != allocation.canary; };
    ptrdiff_t before = allocation.start - std::find_if(allocation.pages, allocation.start, is_damaged);
    ptrdiff_t after = std::find_if(end, allocation.pages_end(), is_damaged) - end;
    // Told once.
    memset(allocation.pages, allocation.canary, allocation.start - allocation.pages);
    memset(end, allocation.canary, allocation.pages_end() - end);
    return say("a write ", before > 0 ? before : after, before > 0 ? " bytes before the start" : " bytes after the end",
               " of an allocation of ", allocation.bytes, " bytes");
}

} // namespace

Options options;

unsigned char* map_pages(size_t bytes) {
    size_t whole = round_up(bytes, page_size) + 2 * page_size;
    unsigned char* range = reserve_pages(whole);
    bool is_open = range && mprotect(range + page_size, whole - 2 * page_size, PROT_READ | PROT_WRITE) == 0;
    return is_open ? range + page_size : nullptr;
}

bool is_filled(const unsigned char* begin, const unsigned char* end, unsigned char value) {
    return begin == end || (*begin == value && memcmp(begin, begin + 1, end - begin - 1) == 0);
}

// 0xff: NaN in every floating-point type, -1. 0x4b: ordinary numbers (13323083.0f).
unsigned char poison_byte() {
    return options.poison == 0 ? 0xff : 0x4b;
}

Access::Access() {
    if (arena.opened++ == 0)
        arena.set_access(true);
}
Access::~Access() {
    if (--arena.opened == 0)
        arena.set_access(false);
}

void protect_again() {
    for (const auto& entry : arena.live)
        arena.protect(entry.second);
}

void* allocate(size_t bytes) {
    arena.reserve();
    if (!arena.begin || bytes > device_memory_bytes - arena.bytes)
        return nullptr;
    Allocation allocation;
    allocation.bytes = bytes;
    allocation.page_bytes = round_up(bytes, page_size);
    allocation.pages = arena.place(allocation.page_bytes);
    if (!allocation.pages)
        return nullptr;
    allocation.start = allocation.pages_end() - round_up(bytes, alignment);
    allocation.canary = poison_byte();
    Access access;
    if (!arena.protect(allocation))
        return nullptr;
    arena.cursor = allocation.pages_end() + guard_bytes;
    memset(allocation.pages, allocation.canary, allocation.page_bytes);
    arena.live[allocation.pages] = allocation;
    arena.bytes += allocation.bytes;
    return allocation.start;
}

bool release(void* pointer, std::string* damage) {
    const Allocation* found = arena.at(pointer);
    if (!found || found->start != pointer)
        return false;
    Allocation allocation = *found;
    *damage = damage_of(allocation);
    arena.live.erase(allocation.pages);
    arena.bytes -= allocation.bytes;
    reserve_pages(allocation.page_bytes, allocation.pages);
    return true;
}

size_t bytes_in_use() {
    return arena.bytes;
}

bool in_device_memory(const void* pointer) {
    return arena.begin && pointer >= arena.begin && pointer < arena.begin + arena_bytes;
}

bool in_allocation(const void* pointer, size_t bytes) {
    const Allocation* found = arena.at(pointer);
    return found && pointer >= found->start && pointer <= found->end() &&
           bytes <= static_cast<size_t>(found->end() - static_cast<const unsigned char*>(pointer));
}

std::string describe(const void* address) {
    if (!in_device_memory(address))
        return say("address ", address, ", which is not device memory");
    // Of the neighbours, the nearer one is the one that was meant.
    auto byte = static_cast<const unsigned char*>(address);
    const Allocation* below = arena.at(address);
    auto above = arena.live.upper_bound(byte);
    const Allocation* meant = below;
    if (above != arena.live.end() && (!below || above->second.start - byte < byte - below->end()))
        meant = &above->second;
    if (!meant)
        return say("device address ", address, ", where nothing is allocated");
    ptrdiff_t at = byte - meant->start;
    ptrdiff_t behind = byte - meant->end();
    std::string inside = say(" of an allocation of ", meant->bytes, " bytes");
    if (at >= 0 && behind < 0)
        return say("device memory, byte ", at, inside);
    return say("device memory ", at < 0 ? -at : behind, at < 0 ? " bytes before the start" : " bytes after the end", inside);
}

std::string find_damage() {
    std::string damage;
    for (auto entry = arena.live.begin(); damage.empty() && entry != arena.live.end(); ++entry)
        damage = damage_of(entry->second);
    return damage;
}

} // namespace ssm::emulation
