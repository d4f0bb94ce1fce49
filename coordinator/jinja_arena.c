#include "coordinator/jinja_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 * 1024 };

struct jinja_chunk {
    struct jinja_chunk *older;
    size_t used, capacity;
    alignas(max_align_t) char bytes[];
};

void jinja_arena_init(struct jinja_arena *a, size_t limit)
{
    *a = (struct jinja_arena){.limit = limit};
}

void jinja_arena_clear(struct jinja_arena *a)
{
    while (a->newest) {
        struct jinja_chunk *older = a->newest->older;
        free(a->newest);
        a->newest = older;
    }
    a->used = 0;
}

static struct jinja_chunk *add_chunk(struct jinja_arena *a, size_t size)
{
    size_t capacity = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    struct jinja_chunk *chunk = malloc(sizeof *chunk + capacity);
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

void *jinja_arena_alloc(struct jinja_arena *a, size_t size)
{
    if (size > a->limit || a->limit - size < a->used)
        return NULL;
    const size_t alignment = alignof(max_align_t);
    size = size ? (size + alignment - 1) / alignment * alignment : alignment;
    struct jinja_chunk *chunk = a->newest;
    if (!chunk || chunk->capacity - chunk->used < size)
        chunk = add_chunk(a, size);
    if (!chunk)
        return NULL;
    void *block = chunk->bytes + chunk->used;
    chunk->used += size;
    a->used += size < a->limit - a->used ? size : a->limit - a->used; /* rounding */
    return memset(block, 0, size);
}

void *jinja_arena_array(struct jinja_arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size)
        return NULL;
    return jinja_arena_alloc(a, count * size);
}
