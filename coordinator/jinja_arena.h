/* jinja_arena.h - memory that dies together: one arena holds a parsed template, one a rendering.
 * The limit makes a template that builds ever larger values fail instead of the process. */
#ifndef PACELINE_COORDINATOR_JINJA_ARENA_H
#define PACELINE_COORDINATOR_JINJA_ARENA_H

#include <stddef.h>

struct jinja_chunk;
struct jinja_arena {
    struct jinja_chunk *newest;
    size_t used, limit; /* bytes handed out; how many may be */
};

void jinja_arena_init(struct jinja_arena *a, size_t limit);
void jinja_arena_clear(struct jinja_arena *a);
/* Zeroed and aligned for any type. NULL: the limit is reached or there is no memory. */
void *jinja_arena_alloc(struct jinja_arena *a, size_t size);
/* The same for an array; count * size may overflow. */
void *jinja_arena_array(struct jinja_arena *a, size_t count, size_t size);

#endif
