#include "tests/support/json_memory.h"

#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>

static int64_t bytes, most_bytes;

static void *json_memory_malloc(size_t size)
{
    void *p = malloc(size);
    bytes += p ? (int64_t)malloc_usable_size(p) : 0;
    most_bytes = bytes > most_bytes ? bytes : most_bytes;
    return p;
}

static void json_memory_free(void *p)
{
    bytes -= p ? (int64_t)malloc_usable_size(p) : 0;
    free(p);
}

void json_memory_begin(void)
{
    bytes = most_bytes = 0;
    json_set_alloc_funcs(json_memory_malloc, json_memory_free);
}

int64_t json_memory_end(void)
{
    json_set_alloc_funcs(malloc, free);
    return most_bytes;
}
