/* arena.h - memory that dies together, as a parsed template, a rendering, a grammar while it is
 * compiled. The limit makes one that builds ever larger values fail instead of the process. */
#ifndef PACELINE_BASE_ARENA_H
#define PACELINE_BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *newest;
    size_t used, limit; /* bytes handed out; how many may be */
};

void arena_init(struct arena *a, size_t limit);
void arena_clear(struct arena *a);
/* Zeroed and aligned for any type. NULL: the limit is reached or there is no memory. */
void *arena_alloc(struct arena *a, size_t size);
/* The same for an array; count * size may overflow. */
void *arena_array(struct arena *a, size_t count, size_t size);

#endif
