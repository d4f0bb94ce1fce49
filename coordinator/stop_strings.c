#include "coordinator/stop_strings.h"

#include <string.h>

void stop_strings_init(struct stop_strings *s, const char *const *strings, size_t n)
{
    *s = (struct stop_strings){.n = n, .strings = strings, .matched = -1};
    buf_init(&s->held);
}

void stop_strings_clear(struct stop_strings *s)
{
    buf_clear(&s->held);
}

/* The stop string that is complete first, the longest of those that end there: so the answer does
 * not depend on how the text was cut into pieces. *ret_start: where it begins. */
static int stop_strings_find(const struct stop_strings *s, size_t *ret_start)
{
    int found = -1;
    size_t best_end = 0;
    *ret_start = 0;
    for (size_t i = 0; i < s->n; i++) {
        size_t length = strlen(s->strings[i]);
        const char *at = memmem(buf_text(&s->held), s->held.length, s->strings[i], length);
        if (!at)
            continue;
        size_t start = (size_t)(at - s->held.data), end = start + length;
        if (found < 0 || end < best_end || (end == best_end && start < *ret_start)) {
            found = (int)i;
            best_end = end;
            *ret_start = start;
        }
    }
    return found;
}

/* Bytes at the end of the held text that may become a stop string. */
static size_t stop_strings_undecided(const struct stop_strings *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        size_t n = strlen(s->strings[i]) - 1;
        if (n > s->held.length)
            n = s->held.length;
        const char *end = buf_text(&s->held) + s->held.length;
        while (n > longest && memcmp(end - n, s->strings[i], n) != 0)
            n--;
        if (n > longest)
            longest = n;
    }
    return longest;
}

bool stop_strings_push(struct stop_strings *s, const char *text, size_t length, struct buf *out)
{
    if (s->matched >= 0)
        return true;
    if (!s->n) {
        buf_append(out, text, length);
        return false;
    }
    buf_append(&s->held, text, length);
    if (buf_failed(&s->held)) { /* the caller looks at out */
        out->failed = true;
        return false;
    }
    size_t shown;
    s->matched = stop_strings_find(s, &shown);
    if (s->matched < 0)
        shown = s->held.length - stop_strings_undecided(s);
    buf_append(out, buf_text(&s->held), shown);
    buf_drop_front(&s->held, s->matched < 0 ? shown : s->held.length);
    return s->matched >= 0;
}

void stop_strings_finish(struct stop_strings *s, struct buf *out)
{
    buf_append(out, buf_text(&s->held), s->held.length);
    buf_reset(&s->held);
}
