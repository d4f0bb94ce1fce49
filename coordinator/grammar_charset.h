/* grammar_charset.h - sets of characters (Unicode scalar values: no surrogates), as ranges. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_CHARSET_H
#define PACELINE_COORDINATOR_GRAMMAR_CHARSET_H

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAMMAR_LAST_CHARACTER 0x10FFFF

struct grammar_range {
    uint32_t low, high; /* both belong to it */
};

/* Ascending, apart and not adjacent, once it is sorted. Memory is the arena's. */
struct grammar_charset {
    struct grammar_range *ranges; /* [n] */
    size_t n, capacity;
};

/* Adds are unsorted until grammar_charset_sort(). false: no memory. */
bool grammar_charset_add(struct grammar_charset *s, struct arena *a, uint32_t low, uint32_t high);
bool grammar_charset_add_all(struct grammar_charset *s, struct arena *a,
                             const struct grammar_charset *other);
/* Sorts, merges, and leaves surrogates out. */
bool grammar_charset_sort(struct grammar_charset *s, struct arena *a);
/* Of a sorted set: all other characters. */
bool grammar_charset_complement(const struct grammar_charset *s, struct arena *a,
                                struct grammar_charset *ret_other);
bool grammar_charset_has(const struct grammar_charset *s, uint32_t character); /* sorted */
/* For each character of a sorted set that is a Latin letter: the other case, too. */
bool grammar_charset_fold(struct grammar_charset *s, struct arena *a);

#endif
