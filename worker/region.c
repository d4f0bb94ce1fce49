#include "worker/region.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_ALIGNMENT 64

void *region_take(struct region *r, size_t count, size_t item_bytes)
{
    size_t bytes;
    size_t end;
    if (__builtin_mul_overflow(count, item_bytes, &bytes) ||
        __builtin_add_overflow(r->used, bytes, &end) || end > SIZE_MAX / 4) {
        r->overflow = true;
        return NULL;
    }
    void *memory = r->base ? r->base + r->used : NULL;
    r->used = (end + REGION_ALIGNMENT - 1) / REGION_ALIGNMENT * REGION_ALIGNMENT;
    return memory;
}

int region_claim(struct region *r, struct err *err)
{
    size_t size = r->used ? r->used : REGION_ALIGNMENT;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return err_set(err, ERR_MEMORY, "the system refuses %zu bytes of memory: %s", size,
                       strerror(errno));
    /* Weights are streamed through once for each token: with small pages the TLB would be the
     * bottleneck. A kernel without large pages says no, and nothing is lost. */
    madvise(base, size, MADV_HUGEPAGE);
    r->base = base;
    r->size = size;
    r->used = 0;
    return 0;
}

void region_populate(struct region *r, size_t from)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = (from + page - 1) / page * page; at < r->used; at += page)
        *(volatile unsigned char *)(r->base + at) = 0;
}

void region_release(struct region *r)
{
    if (r->base)
        munmap(r->base, r->size);
    memset(r, 0, sizeof *r);
}
