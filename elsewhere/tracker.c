/* SPDX-License-Identifier: MIT
 *
 * Loaded before glibc's allocator, it tells where the memory that holds an address begins, and how large it is. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

enum { PAGE = 12, BUCKETS = 1 << 18, MOST_PAGES = 1 << 20 };

typedef struct node {
    struct node *next;
    uintptr_t at;
    size_t size;
} node;

static node *buckets[BUCKETS], *unused;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static node **bucket(uintptr_t page) { return &buckets[page % BUCKETS]; }

static void *add(void *at, size_t size) {
    if (!at)
        return at;
    pthread_mutex_lock(&lock);
    if (!unused) {
        enum { SOME = 4096 };
        node *more = __libc_malloc(SOME * sizeof *more);
        for (int i = 0; more && i < SOME; i++)
            more[i].next = unused, unused = more + i;
    }
    node *n = unused, **to = bucket((uintptr_t)at >> PAGE);
    if (n)
        unused = n->next, *n = (node){*to, (uintptr_t)at, size}, *to = n;
    pthread_mutex_unlock(&lock);
    return at;
}

static void drop(void *at) {
    pthread_mutex_lock(&lock);
    for (node **n = bucket((uintptr_t)at >> PAGE); *n; n = &(*n)->next)
        if ((*n)->at == (uintptr_t)at) {
            node *old = *n;
            *n = old->next, old->next = unused, unused = old;
            break;
        }
    pthread_mutex_unlock(&lock);
}

void *malloc(size_t size) { return add(__libc_malloc(size), size); }
void *calloc(size_t n, size_t size) { return add(__libc_calloc(n, size), n * size); }
void *memalign(size_t alignment, size_t size) { return add(__libc_memalign(alignment, size), size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **to, size_t alignment, size_t size) {
    void *at = memalign(alignment, size);
    *to = at ? at : *to;
    return at ? 0 : 12; /* ENOMEM */
}

void free(void *at) {
    if (at)
        drop(at);
    __libc_free(at);
}

void *realloc(void *at, size_t size) {
    if (at)
        drop(at);
    return add(__libc_realloc(at, size), size);
}

/* Find the memory that holds an address; 0 if there is none. */
int find_memory(uintptr_t address, uintptr_t *at, size_t *size) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (uintptr_t page = address >> PAGE, i = 0; i < MOST_PAGES && !found && page >= i; i++)
        for (const node *n = *bucket(page - i); n; n = n->next)
            if (n->at <= address && address - n->at < n->size) {
                *at = n->at, *size = n->size, found = 1;
                break;
            }
    pthread_mutex_unlock(&lock);
    return found;
}
