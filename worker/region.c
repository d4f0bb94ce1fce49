#include "worker/region.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_ALIGNMENT 64
#define REGION_LARGE     ((size_t)2 << 20) /* a large page of x86-64, and of ARM64 with 4 KiB ones */
#define REGION_PAGES     4096              /* that a thread touches in a turn */

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

/* Maps `size` bytes that begin at a multiple of REGION_LARGE: only whole large pages become
 * large. NULL: errno says why. */
static void *region_map(size_t size)
{
    const size_t mapped = size + REGION_LARGE;
    char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t before = (REGION_LARGE - (uintptr_t)base % REGION_LARGE) % REGION_LARGE;
    const size_t end = (before + size + page - 1) / page * page;
    if (before)
        munmap(base, before);
    if (end < mapped)
        munmap(base + end, mapped - end);
    return base + before;
}

int region_claim(struct region *r, struct err *err)
{
    size_t size = r->used ? r->used : REGION_ALIGNMENT;
    void *base = region_map(size);
    if (!base)
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
    size_t first = (from + page - 1) / page;
    size_t end = (r->used + page - 1) / page;
#pragma omp parallel for schedule(dynamic, REGION_PAGES)
    for (size_t i = first; i < end; i++)
        *(volatile unsigned char *)(r->base + i * page) = 0;
}

void region_release(struct region *r)
{
    if (r->base)
        munmap(r->base, r->size);
    memset(r, 0, sizeof *r);
}
