#include "coordinator/grammar_charset.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SURROGATE 0xD800
#define LAST_SURROGATE  0xDFFF

bool grammar_charset_add(struct grammar_charset *s, struct arena *a, uint32_t low, uint32_t high)
{
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 4;
        struct grammar_range *grown = arena_array(a, capacity, sizeof *grown);
        if (!grown)
            return false;
        if (s->n)
            memcpy(grown, s->ranges, s->n * sizeof *grown);
        s->ranges = grown;
        s->capacity = capacity;
    }
    s->ranges[s->n++] = (struct grammar_range){low, high};
    return true;
}

bool grammar_charset_add_all(struct grammar_charset *s, struct arena *a,
                             const struct grammar_charset *other)
{
    for (size_t i = 0; i < other->n; i++)
        if (!grammar_charset_add(s, a, other->ranges[i].low, other->ranges[i].high))
            return false;
    return true;
}

static int range_compare(const void *a, const void *b)
{
    const struct grammar_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

/* Appends to a set that ascends, without what are no characters. */
static bool charset_append(struct grammar_charset *s, struct arena *a, uint32_t low, uint32_t high)
{
    high = high > GRAMMAR_LAST_CHARACTER ? GRAMMAR_LAST_CHARACTER : high;
    if (low <= LAST_SURROGATE && high >= FIRST_SURROGATE) {
        if (low < FIRST_SURROGATE && !charset_append(s, a, low, FIRST_SURROGATE - 1))
            return false;
        if (high == LAST_SURROGATE)
            return true;
        low = LAST_SURROGATE + 1;
    }
    if (low > high)
        return true;
    struct grammar_range *last = s->n ? &s->ranges[s->n - 1] : NULL;
    if (last && low <= last->high + 1) {
        last->high = high > last->high ? high : last->high;
        return true;
    }
    return grammar_charset_add(s, a, low, high);
}

bool grammar_charset_sort(struct grammar_charset *s, struct arena *a)
{
    struct grammar_charset sorted = {0};
    if (s->n)
        qsort(s->ranges, s->n, sizeof *s->ranges, range_compare);
    for (size_t i = 0; i < s->n; i++)
        if (!charset_append(&sorted, a, s->ranges[i].low, s->ranges[i].high))
            return false;
    *s = sorted;
    return true;
}

bool grammar_charset_complement(const struct grammar_charset *s, struct arena *a,
                                struct grammar_charset *ret_other)
{
    struct grammar_charset other = {0};
    uint32_t next = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->ranges[i].low > next && !charset_append(&other, a, next, s->ranges[i].low - 1))
            return false;
        next = s->ranges[i].high + 1;
    }
    if (!charset_append(&other, a, next, GRAMMAR_LAST_CHARACTER))
        return false;
    *ret_other = other;
    return true;
}

bool grammar_charset_has(const struct grammar_charset *s, uint32_t character)
{
    for (size_t i = 0; i < s->n; i++)
        if (character >= s->ranges[i].low && character <= s->ranges[i].high)
            return true;
    return false;
}

bool grammar_charset_fold(struct grammar_charset *s, struct arena *a)
{
    struct grammar_charset folded = *s;
    folded.capacity = folded.n; /* the ranges of s stay as they are while they are read */
    for (uint32_t c = 'a'; c <= 'z'; c++) {
        bool lower = grammar_charset_has(s, c), upper = grammar_charset_has(s, c - 'a' + 'A');
        if (lower != upper) {
            uint32_t missing = lower ? c - 'a' + 'A' : c;
            if (!grammar_charset_add(&folded, a, missing, missing))
                return false;
        }
    }
    *s = folded;
    return grammar_charset_sort(s, a);
}
