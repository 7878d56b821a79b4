/* SPDX-License-Identifier: MIT
 *
 * Replay a trace that record.py wrote: make its calls to the core of this machine, and hold all that they leave in memory
 * against what the trace says. calls.h, which harness.py makes of the core's headers, has the structures and functions.
 *
 * replay LIBRARY KERNEL TRACE...    KERNEL: the number of the kernel that runs instead of the recorded one, or -1
 *
 * Where the core is linked to this program (WebAssembly), LIBRARY is not looked at. */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#elif !defined(__wasm__)
#include <dlfcn.h>
#endif

typedef struct {
    const struct_layout *layout; /* NULL: bytes */
    uint64_t count;              /* of bytes, or of structures */
    size_t size;
    uint8_t *at, *known; /* the memory, and what the trace says is in it */
    void *taken[2];      /* what is to be freed */
} block;

static block *blocks;
static uint32_t last, room; /* blocks are numbered from 1 on */
static int32_t kernel;
static FILE *trace;
static const char *name;

static void fail(const char *why, uint64_t value) {
    fprintf(stderr, "%s: %s %llu\n", name, why, (unsigned long long)value);
    exit(1);
}

static void get(void *to, size_t n) {
    if (fread(to, 1, n, trace) != n)
        fail("the trace ends in the middle, or lacks", n);
}

static uint64_t number(void) {
    uint64_t value;
    get(&value, sizeof value);
    return value;
}

static uint32_t small(void) {
    uint32_t value;
    get(&value, sizeof value);
    return value;
}

/* Take memory that is at the same place in a line of 64 bytes as what was recorded. */
static uint8_t *memory(size_t size, uint32_t place, void **taken) {
    uint8_t *at = *taken = calloc(size + 2 * 64, 1);
    if (!at)
        fail("there is no memory for bytes:", size);
    return at + (-(uintptr_t)at % 64) + place;
}

static void *pointer(uint64_t of, uint64_t place) { return of ? blocks[of].at + place : 0; }

static void add_block(void) {
    uint32_t id = small(), layout = small();
    block b = {layout ? LAYOUTS + layout - 1 : 0, number(), 0, 0, 0, {0, 0}};
    uint32_t place = small();
    b.size = (size_t)b.count * (layout ? b.layout->size : 1);
    b.at = memory(b.size, place, b.taken), b.known = memory(b.size, place, b.taken + 1);
    if (id >= room)
        blocks = realloc(blocks, (room = 2 * id + 64) * sizeof *blocks);
    last = id;
    blocks[id] = b;
}

/* Write a cell of a structure as this machine has it. */
static void set_cell(uint8_t *to, const cell_layout *cell, uint64_t value, uint64_t place) {
    if (cell->is_kernel && kernel >= 0)
        value = (uint64_t)kernel;
    if (cell->is_pointer) {
        void *at = pointer(value, place);
        memcpy(to, &at, sizeof at);
    } else {
        memcpy(to, &value, cell->size); /* all of these machines have the lowest byte first */
    }
}

static void change(bool also_memory) {
    uint32_t id = small();
    uint64_t start = number(), n = number();
    block *b = blocks + id;
    if (!b->layout) {
        get(b->known + start, (size_t)n);
        if (also_memory)
            memcpy(b->at + start, b->known + start, (size_t)n);
        return;
    }
    for (uint64_t i = start / 16; i < (start + n) / 16; i++) {
        const cell_layout *cell = b->layout->cells + i % b->layout->count;
        size_t at = (size_t)(i / b->layout->count) * b->layout->size + cell->offset;
        uint64_t value = number(), place = number();
        set_cell(b->known + at, cell, value, place);
        if (also_memory)
            set_cell(b->at + at, cell, value, place);
    }
}

static bool holds(const block *b) {
    if (!b->layout)
        return !memcmp(b->at, b->known, b->size);
    for (uint64_t i = 0; i < b->count; i++)
        for (uint32_t c = 0; c < b->layout->count; c++) {
            const cell_layout *cell = b->layout->cells + c;
            size_t at = (size_t)i * b->layout->size + cell->offset;
            if (memcmp(b->at + at, b->known + at, cell->is_pointer ? sizeof(void *) : cell->size))
                return false;
        }
    return true;
}

#if defined(__wasm__)
static void *function(const char *library, uint32_t i) { return (void)library, LINKED[i]; }
#elif defined(_WIN32)
static void *function(const char *library, uint32_t i) {
    HMODULE module = LoadLibraryA(library);
    return module ? (void *)(uintptr_t)GetProcAddress(module, FUNCTIONS[i].name) : 0;
}
#else
static void *function(const char *library, uint32_t i) {
    void *module = dlopen(library, RTLD_NOW);
    return module ? dlsym(module, FUNCTIONS[i].name) : 0;
}
#endif

static void call(const char *library, uint64_t calls) {
    uint32_t id = small();
    argument arguments[MOST_PARAMETERS];
    for (uint32_t i = 0; i < FUNCTIONS[id].parameters; i++) {
        uint64_t value = number(), place = number();
        if (FUNCTIONS[id].kinds[i] == 'p')
            arguments[i].p = pointer(value, place);
        else
            arguments[i].i = value;
    }
    void *at = function(library, id);
    if (!at)
        fail("the library cannot be loaded, or lacks function", id);
    int64_t result = make_call(id, at, arguments), expected = (int64_t)number();
    /* structures may be smaller here, so that less working memory is needed */
    if (FUNCTIONS[id].is_size ? result > expected || result < 0 : result != expected)
        fail("another result from call", calls);
}

static uint64_t check(uint64_t calls) {
    uint64_t bytes = 0;
    for (uint32_t left = small(); left; left--) {
        const block *b = blocks + small();
        if (!holds(b))
            fail("other memory after call", calls);
        bytes += b->size;
    }
    return bytes;
}

static void replay(const char *library) {
    uint64_t calls = 0, bytes = 0;
    for (int letter; (letter = fgetc(trace)) != EOF;) {
        if (letter == 'B')
            add_block();
        else if (letter == 'S' || letter == 'E')
            change(letter == 'S');
        else if (letter == 'C')
            call(library, calls++);
        else if (letter == 'K')
            bytes += check(calls - 1);
        else
            fail("there is no operation", (uint64_t)letter);
    }
    for (; last; last--)
        free(blocks[last].taken[0]), free(blocks[last].taken[1]);
    printf("%s: %llu calls, %llu bytes compared\n", name, (unsigned long long)calls, (unsigned long long)bytes);
}

int main(int n, char **words) {
    name = "replay LIBRARY KERNEL TRACE...";
    if (n < 4)
        fail("arguments:", (uint64_t)n - 1);
    kernel = atoi(words[2]);
    for (int i = 3; i < n; i++) {
        name = words[i];
        if (!(trace = fopen(name, "rb")))
            fail("it cannot be opened; argument", (uint64_t)i);
        replay(words[1]);
        fclose(trace);
    }
    return 0;
}
