#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 * 1024 };

struct arena_chunk {
    struct arena_chunk *older;
    size_t used, capacity;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t limit)
{
    *a = (struct arena){.limit = limit};
}

void arena_clear(struct arena *a)
{
    while (a->newest) {
        struct arena_chunk *older = a->newest->older;
        free(a->newest);
        a->newest = older;
    }
    a->used = 0;
}

static struct arena_chunk *arena_add_chunk(struct arena *a, size_t size)
{
    size_t capacity = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    struct arena_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (!chunk)
        return NULL;
    chunk->used = 0;
    chunk->capacity = capacity;
    if (size > CHUNK_BYTES && a->newest) {
        /* A large block goes behind the current chunk, whose rest stays usable. */
        chunk->older = a->newest->older;
        a->newest->older = chunk;
    } else {
        chunk->older = a->newest;
        a->newest = chunk;
    }
    return chunk;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->limit || a->limit - size < a->used)
        return NULL;
    const size_t alignment = alignof(max_align_t);
    size = size ? (size + alignment - 1) / alignment * alignment : alignment;
    struct arena_chunk *chunk = a->newest;
    if (!chunk || chunk->capacity - chunk->used < size)
        chunk = arena_add_chunk(a, size);
    if (!chunk)
        return NULL;
    void *block = chunk->bytes + chunk->used;
    chunk->used += size;
    a->used += size < a->limit - a->used ? size : a->limit - a->used; /* rounding */
    return memset(block, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size)
        return NULL;
    return arena_alloc(a, count * size);
}
